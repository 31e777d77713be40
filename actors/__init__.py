"""What runs beside the environments: environments, the env runner, behaviours, the evaluator."""
