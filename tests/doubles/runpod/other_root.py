"""Root directories for pods, with the content of an image: a pod sees nothing of the checkout, and can write nowhere else.

The image has what infra/docker/train.Dockerfile puts into it: the code in /app, an environment in /opt/venv, the folder
/var/lib/recsys, and a user without rights. This machine lends its system libraries, its interpreter and the installed packages,
each mounted read-only in a mount namespace of the pod's own. That needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["OtherRoot"]

CODE = Path(__file__).parents[3]
PACKAGES = ("configs", "flows", "infra", "models", "serving", "tasks")
USER = 10001
ENTER = r"""
set -eu
root=$1 image=$2 prefix=$3 packages=$4
shift 4
given=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
lend() { mkdir -p "$root$2"; mount --bind "$1" "$root$2"; mount -o remount,ro,bind "$root$2"; }
for name in usr bin sbin lib lib64 etc/ssl etc/alternatives; do
    if [ -L "/$name" ]; then ln -sfn "$(readlink "/$name")" "$root/$name"; elif [ -d "/$name" ]; then lend "/$name" "/$name"; fi
done
case $prefix in /usr|/usr/*) ;; *) lend "$prefix" "$prefix" ;; esac
lend "$packages" /opt/packages
lend "$image/venv" /opt/venv
lend "$image/app" /app
mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/tmp" "$root/var/lib/recsys" "$root/home/recsys"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
lend /sys /sys
cp /etc/hosts /etc/resolv.conf /etc/nsswitch.conf /etc/ld.so.cache "$root/etc/"
printf 'root:x:0:0::/:/bin/sh\nrecsys:x:10001:10001::/home/recsys:/bin/sh\n' > "$root/etc/passwd"
printf 'root:x:0:\nrecsys:x:10001:\n' > "$root/etc/group"
chmod 1777 "$root/tmp"
chown 10001:10001 "$root/var/lib/recsys" "$root/home/recsys"
exec chroot --userspec=10001:10001 "$root" /usr/bin/env -C /var/lib/recsys "PATH=$given" "$@"
"""


class OtherRoot:
    """An image in `folder`. Its pods get their root directories there too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in PACKAGES:
            shutil.copytree(CODE / name, folder / "app" / name, ignore=shutil.ignore_patterns("__pycache__"))
        worker = Path("packages") / "prefect-runpod" / "prefect_runpod"
        shutil.copytree(CODE / worker, folder / "app" / worker, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("prefect.yaml", "pyproject.toml"):
            shutil.copy(CODE / name, folder / "app" / name)
        programs = folder / "venv" / "bin"
        programs.mkdir(parents=True)
        interpreter = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
        (programs / "python").symlink_to(interpreter)
        (folder / "venv" / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
        own = folder / "venv" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        own.mkdir(parents=True)
        # The first two are the editable installations of the Dockerfile.
        (own / "image.pth").write_text("/app\n/app/packages/prefect-runpod\n/opt/packages\n")
        (programs / "prefect").write_text("#!/opt/venv/bin/python\nfrom prefect.cli import app\n\napp()\n")
        (programs / "prefect").chmod(0o755)

    @staticmethod
    def why_not() -> str | None:
        """Why this machine cannot have pods in another root directory, or None."""
        if os.geteuid() != 0:
            return "pods in another root directory need root"
        for program in ("unshare", "chroot", "mount"):
            if shutil.which(program) is None:
                return f"pods in another root directory need {program}"
        probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            return "pods in another root directory need the right to mount (CAP_SYS_ADMIN)"
        return None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the Dockerfile sets."""
        return {
            "PATH": "/opt/venv/bin:/usr/bin:/bin",
            "HOME": "/home/recsys",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PREFECT_HOME": "/var/lib/recsys/prefect",
            "OMP_NUM_THREADS": "1",
        }

    def enter(self, root: Path, command: list[str]) -> list[str]:
        """Return the command that runs `command` in a pod whose disk is the folder `root`."""
        packages = sysconfig.get_paths()["purelib"]
        given = [str(root), str(self.folder), sys.base_prefix, packages]
        return [
            str(shutil.which("unshare")),
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            ENTER,
            "enter",
            *given,
            *command,
        ]
