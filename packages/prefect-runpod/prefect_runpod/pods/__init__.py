"""Pods and the flow runs behind them: what is rented for a run, what it costs, and when it is deleted. Nothing here knows Prefect."""
