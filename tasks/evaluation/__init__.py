"""The evaluation of trained models: ranking metrics, the clean load check, reports and audits of a version."""
