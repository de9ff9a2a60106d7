"""What a flag that does not exist was meant to be: names that other programs have, and names that are nearly right."""

import difflib
from collections.abc import Iterable

# As other programs call them, by setting.
_OTHER_NAMES = {
    "optimizer.learning_rate": "lr learning_rate base_lr",
    "train.batch_size": "bs b batch batchsize batch_size per_gpu_batch_size",
    "train.epochs": "epoch epochs num_epochs n_epochs max_epochs",
    "train.num_steps": "steps num_steps max_steps total_steps iterations iters max_iter",
    "optimizer.weight_decay": "wd weight_decay l2",
    "optimizer.momentum": "momentum",
    "optimizer.name": "opt optim optimizer",
    "optimizer.schedule": "sched scheduler schedule lr_schedule lr_scheduler",
    "optimizer.warmup_epochs": "warmup warmup_epochs",
    "loss.temperature": "t tau temp temperature",
    "loss.method": "method loss objective",
    "equivariance.weight": "lambda lam lmbda lambd equivariance_weight",
    "seed": "seed random_seed",
    "data.root": "data data_dir datadir data_path dataset_dir dataset_path root image_dir train_dir train_data_path",
    "data.name": "dataset dataset_name data_name",
    "data.image_size": "img_size image_size imgsize input_size crop_size resolution size",
    "model.backbone": "arch a backbone model encoder network net resnet",
    "model.dtype": "dtype precision amp fp16 bf16 mixed_precision half",
    "model.head_size": "proj_dim projection_dim proj_output_dim feature_dim feat_dim embedding_dim out_dim dim",
    "model.head_hidden_sizes": "hidden_dim proj_hidden_dim",
    "model.remat": "checkpointing gradient_checkpointing grad_checkpointing remat",
    "augment.num_threads": "workers num_workers j threads num_threads",
    "train.micro_batches": "accumulate grad_accum accum_steps accumulate_grad_batches gradient_accumulation_steps",
    "train.log_every": "log_every log_interval log_freq print_freq log_every_n_steps",
    "train.evaluate_every_epochs": "eval_every eval_freq eval_interval knn_freq",
    "train.checkpoint_every_epochs": "save_every save_freq save_interval checkpoint_freq checkpoint_every",
    "evaluate.knn_k": "k knn_k",
}
_SETTINGS = {name: setting for setting, names in _OTHER_NAMES.items() for name in names.split()}
_FLAGS = {
    "out": "output out_file output_file outfile o dest",
    "workdir": "out output output_dir out_dir outdir save_dir log_dir logdir checkpoint_dir exp_dir result_dir run_dir",
    "config": "cfg c config_file conf configs",
    "num_processes": "world_size nproc nodes num_nodes nnodes",
    "process_id": "rank node_rank local_rank",
}
_OTHER_FLAGS = {
    name: [flag for flag, names in _FLAGS.items() if name in names.split()]
    for name in " ".join(_FLAGS.values()).split()
}
_ADVICE = {
    "gpus gpu ngpu ngpus num_gpus device devices accelerator num_devices cuda": (
        "every device that JAX finds is used; CUDA_VISIBLE_DEVICES=0,1 or JAX_PLATFORMS=cpu in the environment choose"
    ),
    "resume continue auto_resume load checkpoint ckpt": (
        "the same command with the same --workdir goes on where it was stopped"
    ),
}
_OTHER_ADVICE = {name: advice for names, advice in _ADVICE.items() for name in names.split()}


def guess(name: str, value: str | None, settings: Iterable[str], flags: Iterable[str]) -> str:
    """What was probably meant, as the end of a message; empty where nothing comes near.

    >>> guess("lr", "3", ["optimizer.learning_rate"], [])
    'did you mean --config.optimizer.learning_rate=3?'
    >>> guess("config.train.sed", "3", ["seed"], [])
    'did you mean --config.seed=3?'

    Args:
      name: of the flag, without dashes and value.
      value: it was given; None for none.
      settings: that there are, by their dotted names.
      flags: that there are.
    """
    settings, flags = list(settings), list(flags)
    asked = name.rpartition(".")[2].lower().replace("-", "_")
    if advice := _OTHER_ADVICE.get(asked):
        return advice
    meant = [setting for setting in settings if setting == _SETTINGS.get(asked)]
    meant = meant or [setting for setting in settings if setting.rpartition(".")[2] == asked]
    own = not name.startswith("config.")
    if not meant and own:
        meant = [flag for flag in _OTHER_FLAGS.get(asked, ()) if flag in flags][:1]
    if not meant:
        leaves = {setting.rpartition(".")[2]: setting for setting in reversed(settings)}
        known = {**leaves, **_SETTINGS, **({flag: flag for flag in flags} if own else {})}
        close = difflib.get_close_matches(".".join(name.split(".")[-2:]), settings, n=1, cutoff=0.75)
        close += difflib.get_close_matches(asked, known, n=2, cutoff=0.75)
        found = dict.fromkeys(known.get(one, one) for one in close)
        meant = [one for one in found if one in settings or (own and one in flags)]
    shown = [f"--{one}" if one in flags else f"--config.{one}" for one in meant[:3]]
    return _asked(shown, value) if shown else ""


def _asked(shown: list[str], value: str | None) -> str:
    ends = [f"{flag}={value}" if value is not None else flag for flag in shown]
    return f"did you mean {' or '.join(ends)}?"
