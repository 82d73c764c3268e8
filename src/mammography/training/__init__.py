"""Training networks: data, objectives, one module per task, the trainer."""
