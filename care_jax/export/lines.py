"""The lines of Python that load an exported file: they are printed, and a test runs them."""

from collections.abc import Mapping
from typing import Any

from care_jax.errors import UserError
from care_jax.models import CLOUD_BACKBONES, ProjectionHead, ResNet, VisionTransformer
from care_jax.models.state_dicts import PROJECTION_HEAD as HEAD

# Blocks in each stage, bottlenecks or not -> the name in torchvision and timm. timm's resnet10t is another network.
_NAMED: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
}


# What `data.decode` makes of a file; of what is rarer, see docs/export.md.
_LOADER = (
    "from PIL import Image, ImageOps",
    "",
    "def load(path):",
    "    with Image.open(path) as opened:",
    "        image = ImageOps.exif_transpose(opened)  # upright",
    '    if image.mode.startswith("I"):  # gray of 16 bits, one level of which may be transparent',
    '        clear, levels = image.info.pop("transparency", None), [round(level / 257) for level in range(65536)]',
    '        image = image.convert("I").point([255 if i == clear else x for i, x in enumerate(levels)], "L")',
    "    elif image.has_transparency_data:",
    '        image = image.convert("RGBA")',
    '        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)',
    '    return image.convert("RGB")',
)


class ExportError(UserError, ValueError):
    """A model, or a file, that can't be exported so."""


def torch_lines(
    backbone: Any, preprocessing: Mapping[str, Any], file: str, *, safetensors: bool, head: ProjectionHead | None
) -> dict[str, str]:
    """What loads a torch or a safetensors file, by library.

    Args:
      backbone: a `ResNet` or a `VisionTransformer`.
      preprocessing: of its images, as it lies in the file.
      file: its name.
      safetensors: which of the two it is.
      head: the projection head, where it is in the file.

    Returns:
      "torchvision" and "timm" (of a Vision Transformer timm alone) -> lines that define `model`, and `head`; "files" ->
      lines that define `load`, which reads an image file; and "preprocessing" -> lines that define `transform`.

    Raises:
      ExportError: neither library has such a network.
    """
    if isinstance(backbone, ResNet):
        networks = {"torchvision": _torchvision_resnet(backbone), "timm": _timm_resnet(backbone)}
    elif isinstance(backbone, VisionTransformer):
        networks = {"timm": _timm_vit(backbone, preprocessing["image_size"])}
    else:
        raise ExportError(
            f"neither torchvision nor timm has a {type(backbone).__name__}; --to=flax writes every backbone"
        )
    size, pixels = backbone.num_features, preprocessing["image_size"]
    loading = [
        *_loading(file, safetensors, head, size),
        f"# model(images): features [b, {size}] of images [b, 3, {pixels}, {pixels}]",
    ]
    blocks = {library: [*lines, *loading] for library, lines in networks.items()}
    if safetensors:
        for lines in blocks.values():
            lines.insert(lines.index(""), "from safetensors.torch import load_file")
    blocks |= {"files": list(_LOADER), "preprocessing": _transform(preprocessing)}
    return {name: "\n".join(lines) + "\n" for name, lines in blocks.items()}


def flax_lines(
    network: str, settings: Mapping[str, Any], modules: tuple[str, ...], file: str, head: ProjectionHead | None
) -> dict[str, str]:
    """What loads a Flax file.

    Args:
      network: a name of `models.BACKBONES` or `models.CLOUD_BACKBONES`.
      settings: its arguments, but the type that it computes in.
      modules: that register it, where it is one's own.
      file: its name.
      head: the projection head, where it is in the file.

    Returns:
      "Flax" -> lines that define `module` and `variables`; of images "files" too, as of `torch_lines`.
    """
    arguments = ", ".join([*(f"{name}={value!r}" for name, value in settings.items()), "dtype=jnp.float32"])
    clouds = network in CLOUD_BACKBONES
    of = "CLOUD_BACKBONES" if clouds else "BACKBONES"
    lines = ["import jax.numpy as jnp", "from flax import serialization", *(f"import {module}" for module in modules)]
    lines += ["from care_jax import models", "", f"module = models.{of}[{network!r}]({arguments})"]
    result = "features [b, w]"
    if head is not None:
        lines += [f"head = models.{_flax_head(head)}", "module = models.Encoder(module, head)"]
        result = "features [b, w] and embeddings [b, d]"
    lines += [
        f"with open({file!r}, 'rb') as opened:",
        "    variables = serialization.msgpack_restore(opened.read())['variables']",
        f"# module.apply(variables, clouds): {result} of clouds [b, n, 4]: x, y, z, 1 of a point; zeros for none"
        if clouds
        else f"# module.apply(variables, images): {result} of normalised images [b, h, w, 3]",
    ]
    blocks = {"Flax": lines} if clouds else {"Flax": lines, "files": list(_LOADER)}
    return {name: "\n".join(lines) + "\n" for name, lines in blocks.items()}


def _torchvision_resnet(backbone: ResNet) -> list[str]:
    block, stages, width = _block(backbone), list(backbone.stage_sizes), backbone.width
    name = _NAMED.get((backbone.stage_sizes, backbone.bottleneck))
    lines = ["import torch"]
    if width == 64 and name:
        lines += [f"from torchvision.models import {name}", "", f"model = {name}()"]
    elif width == 64:
        lines += [f"from torchvision.models.resnet import {block}, ResNet", "", f"model = ResNet({block}, {stages})"]
    else:
        lines += [
            f"from torchvision.models.resnet import {block}, ResNet",
            "",
            "class OtherWidth(ResNet):  # torchvision's own has 64 channels in its first stage",
            "    def _make_layer(self, block, planes, *arguments, **options):",
            f"        self.inplanes = {width} if planes == 64 else self.inplanes",
            f"        return super()._make_layer(block, planes * {width} // 64, *arguments, **options)",
            "",
            f"model = OtherWidth({block}, {stages})",
        ]
    return [*lines, *_stem(backbone), "model.fc = torch.nn.Identity()"]


def _timm_resnet(backbone: ResNet) -> list[str]:
    block, width = _block(backbone), backbone.width
    name = _NAMED.get((backbone.stage_sizes, backbone.bottleneck))
    if width == 64 and name:
        return [
            "import timm",
            "import torch",
            "",
            f'model = timm.create_model("{name}", num_classes=0)',
            *_stem(backbone),
        ]
    channels = tuple(width * 2**stage for stage in range(4))
    lines = [
        "import torch",
        f"from timm.models.resnet import {block}, ResNet",
        "",
        f"model = ResNet({block}, {backbone.stage_sizes}, channels={channels}, num_classes=0)",
        *_stem(backbone),
    ]
    if width != 64:  # what the stem gives to the first block
        shortcut = f", downsample=torch.nn.Sequential(torch.nn.Conv2d({width}, {4 * width}, 1, bias=False), "
        shortcut += f"torch.nn.BatchNorm2d({4 * width}))"
        lines += [f"model.layer1[0] = {block}({width}, {width}{shortcut if backbone.bottleneck else ''})"]
    return lines


def _block(backbone: ResNet) -> str:
    if len(backbone.stage_sizes) != 4:
        raise ExportError(
            f"torchvision's and timm's ResNets have four stages, this one has {len(backbone.stage_sizes)}; --to=flax "
            "writes every backbone"
        )
    return "Bottleneck" if backbone.bottleneck else "BasicBlock"


def _stem(backbone: ResNet) -> list[str]:
    width, lines = backbone.width, []
    if backbone.stem == "cifar":
        lines = [f"model.conv1 = torch.nn.Conv2d(3, {width}, 3, padding=1, bias=False)"]
        lines += ["model.maxpool = torch.nn.Identity()"]
    elif width != 64:
        lines = [f"model.conv1 = torch.nn.Conv2d(3, {width}, 7, stride=2, padding=3, bias=False)"]
    return lines if width == 64 else [*lines, f"model.bn1 = torch.nn.BatchNorm2d({width})"]


def _timm_vit(backbone: VisionTransformer, image_size: int) -> list[str]:
    base = "vit_base_patch16_224" if backbone.num_heads == 12 else "vit_small_patch16_224"
    return [
        "import timm",
        "import torch",
        "",
        "model = timm.create_model(",
        f'    "{base}", num_classes=0, img_size={image_size}, patch_size={backbone.patch_size},',
        f"    embed_dim={backbone.num_features}, depth={backbone.depth}, num_heads={backbone.num_heads},",
        ")",
    ]


def _loading(file: str, safetensors: bool, head: ProjectionHead | None, size: int) -> list[str]:
    lines: list[str] = []
    if safetensors:
        state, head_state = f"load_file({file!r})", ""
        if head is not None:
            lines = [f"tensors = load_file({file!r})"]
            state = f'{{name: x for name, x in tensors.items() if not name.startswith("{HEAD}.")}}'
            head_state = f'{{name[{len(HEAD) + 1}:]: x for name, x in tensors.items() if name.startswith("{HEAD}.")}}'
    else:
        lines = [f"checkpoint = torch.load({file!r}, weights_only=True)"]
        state, head_state = 'checkpoint["state_dict"]', f'checkpoint["{HEAD}"]'
    lines += [f"model.load_state_dict({state})", "model.eval()"]
    if head is None:
        return lines
    return [
        *lines,
        "head = torch.nn.Sequential(",
        *(f"    {module}," for module in _torch_head(head, size)),
        ")",
        f"head.load_state_dict({head_state})",
        "head.eval()",
        f"# torch.nn.functional.normalize(head(model(images))): embeddings [b, {head.size}]",
    ]


def _torch_head(head: ProjectionHead, size: int) -> list[str]:
    modules = []
    for hidden in head.hidden_sizes:
        modules += [f"torch.nn.Linear({size}, {hidden}, bias={not head.batch_norm})"]
        modules += [f"torch.nn.BatchNorm1d({hidden})"] * head.batch_norm + ["torch.nn.ReLU()"]
        size = hidden
    modules += [f"torch.nn.Linear({size}, {head.size}, bias={not head.output_batch_norm})"]
    return modules + [f"torch.nn.BatchNorm1d({head.size}, affine=False)"] * head.output_batch_norm


def _flax_head(head: ProjectionHead) -> str:
    names = ("hidden_sizes", "size", "batch_norm", "output_batch_norm")
    return f"ProjectionHead({', '.join(f'{name}={getattr(head, name)!r}' for name in names)})"


def _transform(preprocessing: Mapping[str, Any]) -> list[str]:
    return [
        "from torchvision import transforms",
        "",
        "transform = transforms.Compose([",
        f"    transforms.Resize({preprocessing['resize']}),  # the shorter side; bilinear, antialiased",
        f"    transforms.CenterCrop({preprocessing['image_size']}),",
        "    transforms.ToTensor(),",
        f"    transforms.Normalize({tuple(preprocessing['mean'])}, {tuple(preprocessing['std'])}),",
        "])",
        f"# transform(load('photo.jpg')): [3, {preprocessing['image_size']}, {preprocessing['image_size']}]",
    ]
