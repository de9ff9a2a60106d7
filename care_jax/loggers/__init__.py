"""Where the numbers of a run go besides `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow; see `train.loggers`."""

from care_jax.loggers.base import LOGGERS, Final, Logger, LoggerError, check_installed, chosen, tags
from care_jax.loggers.together import Loggers, opened

__all__ = ["LOGGERS", "Final", "Logger", "LoggerError", "Loggers", "check_installed", "chosen", "opened", "tags"]
