"""The manifests of infra/kubernetes: valid, with least rights, and with the services, settings and secrets of compose."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.utilities.templating import apply_values

from infra.kubernetes.write_rules import COMPOSE as RULES
from infra.kubernetes.write_rules import WRITTEN, as_prometheus_rule
from infra.local_stack.services import COMPOSE, ROOT
from tests.infra.kubernetes.overlays import Resource, containers, pod_specs, render

FOLDER = ROOT / "infra" / "kubernetes"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OPERATORS = {
    "ExternalSecret",
    "PodMonitor",
    "ServiceMonitor",
    "PrometheusRule",
}  # resources of operators, without a public schema here
OF_THE_CLUSTER = {"prometheus", "grafana", "alertmanager"}  # the Prometheus Operator brings them
VERSIONS = ("1.29", "1.33")
MIB = {"m": 1, "Mi": 1, "g": 1024, "Gi": 1024}


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Resource]]:
    copy = tmp_path_factory.mktemp("infra")
    subprocess.run(["cp", "-r", str(FOLDER), str(ROOT / "infra" / "compose"), str(copy)], check=True)
    subprocess.run(["sh", str(copy / "compose" / "make-secrets"), str(copy / "kubernetes" / "small" / "secrets")], check=True)
    return {name: render(copy / "kubernetes" / name) for name in ("small", "production")} | {
        name: render(copy / "kubernetes" / "components" / name) for name in ("runpod", "kubernetes-pods")
    }


def everything(overlays: dict[str, list[Resource]]) -> list[Resource]:
    return [each for resources in overlays.values() for each in resources]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_follows_the_schema_of_kubernetes(version: str, overlays: dict[str, list[Resource]]) -> None:
    for resource in everything(overlays):
        if resource["kind"] not in OPERATORS:
            kubernetes_validate.validate(resource, version, strict=True)


def test_a_manifest_with_an_unknown_field_is_refused(overlays: dict[str, list[Resource]]) -> None:
    wrong = next(each for each in overlays["small"] if each["kind"] == "Deployment")
    wrong = json.loads(json.dumps(wrong))
    wrong["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_no_pod_has_more_rights_than_it_needs(overlays: dict[str, list[Resource]]) -> None:
    for name, spec in pod_specs(everything(overlays)).items():
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        assert spec["automountServiceAccountToken"] == (name == "worker-kubernetes"), f"{name} can ask the cluster's API"
        assert not spec.get("hostNetwork") and not any("hostPath" in volume for volume in spec["volumes"]), name
    for container in containers(everything(overlays)):
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"], container["name"]
        assert rights["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert set(container["resources"]["limits"]) == {"cpu", "memory"} == set(container["resources"]["requests"]), container[
            "name"
        ]
        image = container["image"]
        assert "@sha256:" in image or re.search(r":\d+\.\d+\.\d+", image) or image == "recsys-worker", f"{image} is not pinned"


def test_a_service_is_probed_and_selects_pods_that_open_its_port(overlays: dict[str, list[Resource]]) -> None:
    for overlay in ("small", "production"):
        resources = overlays[overlay]
        pods = [each["spec"]["template"] for each in resources if each["kind"] in ("Deployment", "StatefulSet", "Job")]
        for service in (each for each in resources if each["kind"] == "Service"):
            selected = [pod for pod in pods if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
            assert len(selected) == 1, service["metadata"]["name"]
            container = selected[0]["spec"]["containers"][0]
            assert {"readinessProbe", "livenessProbe"} <= set(container), service["metadata"]["name"]
            names = {port["name"] for port in container["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for name, spec in pod_specs(overlays["runpod"] + overlays["kubernetes-pods"]).items():
        assert {"readinessProbe", "livenessProbe"} <= set(spec["containers"][0]), name


def test_every_pod_may_only_talk_to_what_a_policy_names(overlays: dict[str, list[Resource]]) -> None:
    for overlay in ("small", "production"):
        policies = {each["metadata"]["name"]: each["spec"] for each in overlays[overlay] if each["kind"] == "NetworkPolicy"}
        assert policies["all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, "nothing is refused by default"
        names = {
            each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] for each in workloads(overlays[overlay])
        }
        assert names <= set(policies), "a workload reaches nothing"
        redis = policies["redis"]["ingress"][0]["from"]
        assert redis == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}} for name in ("api", "backup")]


def workloads(resources: list[Resource]) -> list[Resource]:
    return [each for each in resources if each["kind"] in ("Deployment", "StatefulSet", "Job")]


def test_the_api_scales_survives_a_drained_node_and_drains_before_it_stops(overlays: dict[str, list[Resource]]) -> None:
    for overlay, least in (("small", 1), ("production", 3)):
        kinds = {(each["kind"], each["metadata"]["name"]): each["spec"] for each in overlays[overlay] if "spec" in each}
        assert kinds["HorizontalPodAutoscaler", "api"]["minReplicas"] == least
        assert "replicas" not in kinds["Deployment", "api"], "an update would undo what the autoscaler did"
        assert kinds["Deployment", "api"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        budget = kinds["PodDisruptionBudget", "api"]
        assert budget.get("minAvailable") == 2 if overlay == "production" else budget.get("maxUnavailable") == 1
        pod = kinds["Deployment", "api"]["template"]["spec"]
        assert {each["topologyKey"] for each in pod["topologySpreadConstraints"]} == {
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        }
        slept = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
        assert slept < pod["terminationGracePeriodSeconds"]


def test_kubernetes_runs_the_services_of_compose_with_their_commands_settings_and_secrets(
    overlays: dict[str, list[Resource]],
) -> None:
    of_kubernetes = {"PGDATA", "PREFECT_SERVER_DATABASE_MIGRATE_ON_START", *re.findall(r"\$\{(\w+):-", COMPOSE.read_text())}
    found = pod_specs(overlays["small"] + overlays["runpod"])
    assert set(found) == {name.replace("api-1", "api") for name in SERVICES if name != "api-2"} - OF_THE_CLUSTER
    for name, spec in found.items():
        service, container = SERVICES["api-1" if name == "api" else name], spec["containers"][0]
        command = [re.sub(r"\$\{(\w+):-[^}]*\}", r"$(\1)", str(each)) for each in service["command"]]
        assert container["args"] == command, name
        assert image_of(container["image"]) == image_of(service["image"]), name
        limits = service["deploy"]["resources"]["limits"]
        assert memory(container["resources"]["limits"]["memory"]) == memory(re.sub(r".*:-(\w+)\}", r"\1", limits["memory"])), name
        given = {each["name"]: each.get("value") for each in container.get("env", ())}
        for key, value in service.get("environment", {}).items():
            assert key in given, f"{name} lacks {key}"
            assert given[key] in (None, value), f"{name}: {key}"  # None: from the ConfigMap
        assert set(given) - set(service.get("environment", {})) <= of_kubernetes
        sources = [volume["projected"]["sources"] for volume in spec["volumes"] if "projected" in volume]
        secrets = {item["key"] for each in sources for source in each for item in source["secret"]["items"]}
        assert secrets == set(service.get("secrets", ())), name


def image_of(image: str) -> str:
    """Return an image of others with its digest, and one of the product by its name alone."""
    return image if "@" in image else image.rpartition("/")[2].partition(":")[0]


def memory(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * MIB[unit]


def test_both_overlays_have_every_secret_that_a_pod_names(overlays: dict[str, list[Resource]]) -> None:
    for overlay, kind in (("small", "Secret"), ("production", "ExternalSecret")):
        made = {each["metadata"]["name"] for each in overlays[overlay] if each["kind"] == kind}
        for name, spec in pod_specs(overlays[overlay] + overlays["runpod"]).items():
            for volume in (each for each in spec["volumes"] if "projected" in each):
                assert {source["secret"]["name"] for source in volume["projected"]["sources"]} <= made, f"{overlay}: {name}"


def test_the_operator_gets_the_rules_of_compose() -> None:
    assert WRITTEN.read_text() == as_prometheus_rule(RULES.read_text()), "run `make kubernetes-rules`"


def test_the_form_for_pods_of_the_cluster_makes_a_valid_job_with_a_gpu() -> None:
    template = json.loads((FOLDER / "components" / "kubernetes-pods" / "job-template.json").read_text())
    properties = template["variables"]["properties"]
    image = "registry.example.org/recsys-train@sha256:" + "0" * 64
    values = {name: each["default"] for name, each in properties.items() if "default" in each}
    values |= {"name": "a-run", "image": image, "command": ["prefect", "flow-run", "execute"]}
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(properties), "a field of the form does nothing"
    job = apply_values(template["job_configuration"]["job_manifest"], {**values, "env": [{"name": "A", "value": "b"}]})
    kubernetes_validate.validate(job, VERSIONS[-1], strict=True)
    spec = job["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1 and spec["containers"][0]["image"] == image
    assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]
