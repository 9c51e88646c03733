"""What runs on a Prefect server beside the flows: work pools, deployments, automations, and the credentials of pods."""
