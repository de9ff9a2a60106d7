"""Every setting there is, with its unit and its default. The other files of this folder override it, one level deep.

The defaults are the paper's for CIFAR10 (arXiv:2306.13924, appendix; "script" is the official repository's script).
Values are raw: what can be derived (steps from epochs, say) is derived in code, so that an override can't go stale.
A `placeholder` has no value before it is given one, and none again after `=None`; 0 is 0. Where it says "chosen", None
lets the run choose, for the number of images and the kind of device (care_jax/experiment/choice.py), and keep it.

    python -m care_jax.main --config=configs/cifar10.py --workdir=runs/cifar10 --config.equivariance.weight=0.03
"""

import ml_collections
from ml_collections.config_dict import placeholder

from care_jax.augment import AugmentSpec, CloudSpec
from care_jax.experiment.settings import BRANCHES, ONLY_IMAGES, add_declared


def augmentation() -> ml_collections.ConfigDict:
    """The ranges that one branch draws from: SimCLR's set, as the paper uses it.

    `care_jax.augment.AugmentSpec` explains them all. Those not named here leave their operation off, or are the usual
    ones (crops of 8 to 100 % of the area, a blur of 0.1 to 2 pixels); operations of one's own are off as well.
    """
    spec = ml_collections.ConfigDict(AugmentSpec.settings())
    spec.flip_probability = 0.5
    spec.jitter_probability = 0.8
    spec.brightness = spec.contrast = spec.saturation = 0.4  # factors from U(max(0, 1 - x), 1 + x)
    spec.hue = 0.1  # turns, from U(-x, x)
    spec.grayscale_probability = 0.2
    spec.blur_probability = 0.5
    return spec


def get_config() -> ml_collections.ConfigDict:
    """The complete configuration."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # with the step's number it determines every batch, crop and colour

    config.extensions = ()  # modules of one's own, ("my_lab.posterize",) say: docs/extending.md

    config.data = data = ml_collections.ConfigDict()
    data.name = "cifar10"  # digits, fashion, cifar10, cifar100, stl10, imagenet2012, image_folder; of clouds: proteins
    data.root = placeholder(str)  # TFDS's data_dir, or the folder of images or structures; None: the data set's default
    data.image_size = 32  # pixels a side that the encoder sees
    data.stored_size = placeholder(int)  # pixels a side of the images kept on the device; None: image_size
    # Of the data set, by channel, for images in [0, 1]; None, or "dataset": computed from the training images.
    data.mean = (0.4914, 0.4822, 0.4465)
    data.std = (0.2023, 0.1994, 0.2010)
    data.class_file = placeholder(str)  # WordNet ids, one a line: keep only these ImageNet classes; None: all
    data.download = False  # let TFDS fetch and prepare what is missing
    data.test_fraction = 0.1  # share held out of an image folder that has no test folder

    config.augment = augment = ml_collections.ConfigDict()
    # Where views are made. "device": in the compiled step, images resident on the device; "host": in tf.data;
    # "decode": decode in tf.data, the rest in the step.
    augment.placement = "device"
    augment.invariance = augmentation()  # two draws an image, for the contrastive loss
    augment.equivariance = augmentation()  # two draws a group, for the equivariance loss
    augment.num_threads = placeholder(int)  # of tf.data; None: one a CPU core

    config.model = model = ml_collections.ConfigDict()
    # resnet10, resnet18, resnet34, resnet50, vit_small, vit_base; of clouds of points: deep_set.
    model.backbone = "resnet50"
    # "cifar": 3x3 stride 1, no max-pool; or patches of 4 pixels. "imagenet": 7x7 stride 2, max-pool; or patches of 16.
    model.stem = "cifar"
    # Channels of a ResNet's first stage, or of one attention head (6 in vit_small, 12 in vit_base); units of deep_set's
    # first layer; None: chosen.
    model.width = 64
    # Of the computation: "float32"; "bfloat16", with parameters and statistics in float32; or "float64", all of them,
    # where the environment has JAX_ENABLE_X64=1: slow, to compare programs by.
    model.dtype = "float32"
    model.head_hidden_sizes = (512,)  # hidden layers of the projection head
    model.head_size = 128  # dimension of the embedding
    model.head_batch_norm = True  # of the hidden layers
    model.head_output_batch_norm = False  # of the outputs, without scale and bias, as in Barlow Twins' paper
    model.remat = False  # recompute activations in the backward pass: less memory, more time
    # The backbone's first weights: a checkpoint of torchvision's, timm's, solo-learn's, ...; an exported file; or the
    # folder of a run (docs/export.md). None: drawn by the seed, as the projection head always is.
    model.init_from = placeholder(str)

    config.loss = loss = ml_collections.ConfigDict()
    # The base objective: simclr, moco, byol, barlow_twins, vicreg; or for an ablation alignment, uniformity, none.
    loss.method = "simclr"

    config.equivariance = equivariance = ml_collections.ConfigDict()
    # What is added to the base objective: care, or a rival: equimod (weight 1 in its paper), essl (0.4), augself (1 on
    # STL10, 0.5 on ImageNet100); or sie (1), a whole objective, with loss.method "none".
    equivariance.term = "care"
    equivariance.weight = 0.01  # lambda; 0: the plain base objective (paper 0.01, script 0.03)
    # Of care: groups a batch is cut into; each draws its own pair of augmentations; None: chosen.
    equivariance.num_groups = 16
    equivariance.draws = "group"  # or "batch": one pair for the whole batch, as the official code happens to do
    equivariance.batch_size = placeholder(int)  # of care: images of the batch that it uses, the first ones; None: all

    # Further settings of `loss` and `equivariance` (temperature, queue_size, on, ...) are declared by the methods and
    # terms in care_jax/methods/; docs/methods.md has a table. One without a value is as the method's paper has it.
    add_declared(config)

    config.optimizer = optimizer = ml_collections.ConfigDict()
    optimizer.name = "adam"  # adam (weight decay added to the gradient), adamw, sgd, lars
    optimizer.learning_rate = 1e-3  # for the global batch, whatever the number of devices
    optimizer.momentum = 0.9  # of sgd and lars
    optimizer.weight_decay = 1e-6
    optimizer.decay = "all"  # parameters that decay: "all", or "kernels": no biases, norms, positions
    optimizer.schedule = "constant"  # constant, cosine, step
    optimizer.warmup_epochs = 0.0  # linear, from 0
    optimizer.step_epochs = (250, 300, 350)  # "step": where the rate is multiplied by step_factor
    optimizer.step_factor = 0.1

    config.train = train = ml_collections.ConfigDict()
    train.batch_size = 256  # images a step, over all devices; None: chosen
    # Parts that the batch is embedded in, one after the other: memory for one at a time, one more forward pass, and the
    # same loss over all of the batch. Batch norm sees each part by itself.
    train.micro_batches = 1
    train.steps_per_call = 1  # steps that the device makes in one call; more hides what a call costs the host
    train.epochs = 400.0  # None: chosen
    train.num_steps = placeholder(int)  # steps instead of epochs; None: from epochs
    train.log_every = 50  # steps
    train.evaluate_every_epochs = 10.0  # of evaluate.monitor; 0: only at the end
    train.checkpoint_every_epochs = 10.0
    # Where the rows of metrics.jsonl go too, and at the end the numbers and the pictures: tensorboard (a folder in the
    # workdir), wandb, mlflow; (): nowhere. docs/running.md has what they need.
    train.loggers = ("tensorboard",)
    # Steps that JAX's profiler records at each start, after the first call, into trace/ of the workdir; 0: none.
    train.trace_steps = 0
    train.keep_last = 2  # checkpoints kept, besides the one with the best k-nearest-neighbour accuracy

    config.evaluate = evaluate = ml_collections.ConfigDict()
    # Evaluators (care_jax/evaluate/evaluators.py) that run during training too, with rows in metrics.jsonl; all run at
    # the end. "equivariance@50": every 50 epochs, a multiple of train.evaluate_every_epochs. The checkpoint with the
    # best knn_top1 is kept beside the last ones; without knn here none is ranked.
    evaluate.monitor = ("knn",)
    # Training images that the monitors' kNN and probe see, the same ones each time, drawn by evaluate.seed; None: all.
    # The numbers at the end are always of all.
    evaluate.monitor_examples = placeholder(int)
    # A linear classifier trained beside the encoder, on the features and labels of each step; its accuracy on the
    # augmented training images of a step is online_probe_top1 in metrics.jsonl. The encoder learns nothing of it.
    evaluate.online_probe = False
    evaluate.seed = 0  # of the drawn augmentations: the same for every run, so that runs compare
    evaluate.batch_size = 500  # images a forward pass
    evaluate.center_fraction = 1.0  # of the central square that evaluation sees; 0.875 is resize 256, crop 224
    evaluate.knn_k = 200
    evaluate.knn_temperature = 0.5  # weights exp(cosine / temperature); the paper's monitor uses the loss's
    evaluate.num_augmentations = 20  # drawn for the measures of equivariance
    evaluate.probe = probe = ml_collections.ConfigDict()
    probe.num_seeds = 3
    probe.epochs = 100
    probe.batch_size = 512
    probe.optimizer = "adam"
    probe.learning_rate = 1e-3
    probe.momentum = 0.9
    probe.weight_decay = 1e-6
    probe.schedule = "constant"
    probe.step_epochs = (30, 40, 50)
    probe.step_factor = 0.1
    # Shares of the training labels that the linear probe is trained on too, (0.01, 0.1) say; as many images of each
    # class, drawn by evaluate.seed once for each of probe.num_seeds. (): none.
    evaluate.label_fractions = ()
    # Training the whole backbone with a linear classifier on the labels, from the encoder's parameters; the run's own
    # stay as they are. The values are SimCLR's for 1 % of ImageNet's labels (arXiv:2002.05709, B.5; theirs has
    # Nesterov's momentum and batches of 4096): 0.05 for each 256 images, 60 epochs (30 for 10 %), no weight decay.
    evaluate.finetune = finetune = ml_collections.ConfigDict()
    finetune.enabled = False
    finetune.label_fractions = (1.0,)  # shares of the training labels, each fine-tuned on by itself
    finetune.num_seeds = 3  # of the classifier's start, of order and crops, and of the images drawn of a share
    finetune.epochs = 60
    finetune.batch_size = 256  # images a step, over all devices
    finetune.optimizer = "sgd"
    finetune.learning_rate = 0.05  # for the batch, whatever its size
    finetune.momentum = 0.9
    finetune.weight_decay = 0.0
    finetune.schedule = "cosine"  # constant, cosine
    finetune.augmentation = "crop_flip"  # crops and flips of augment.invariance, no colours; or "none"
    return config


def for_clouds() -> ml_collections.ConfigDict:
    """The complete configuration of a run on clouds of points: settings of images are left out, these come in."""
    config = get_config()
    with config.unlocked():
        for name in ONLY_IMAGES:
            section, _, key = name.rpartition(".")
            del config[section][key]
        for branch in BRANCHES:  # `care_jax.augment.CloudSpec` explains them; all off
            config.augment[branch] = ml_collections.ConfigDict(CloudSpec.settings())
        data, model = config.data, config.model
        data.name = "proteins"
        data.test_fraction = 0.2  # share of the chains held out, with all that are similar to them
        data.window_lengths = (64, 96, 128)  # residues of a piece of a chain, which has pieces of each that it reaches
        data.window_stride = 8  # residues between the beginnings of two pieces
        model.backbone = "deep_set"
        model.pooling = "mean"  # over the points of a set: mean, sum, max; only the sum tells how many they are
    config.evaluate.monitor = ("clouds",)
    return config
