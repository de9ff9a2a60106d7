"""Settings that methods ask for are their papers', cut to small sets and narrow heads; the configuration's own stay."""

import pytest

from care_jax.configs import cifar10, digits, fashion, imagenet
from experiments import benchmark, methods, own_settings


@pytest.mark.parametrize(
    ("config", "images", "expected"),
    [
        (digits.get_config(), 1_438, {"loss.temperature": 0.1, "loss.queue_size": 1_024}),
        (fashion.get_config(), 60_000, {"loss.temperature": 0.1, "loss.queue_size": 32_768}),
        (cifar10.get_config(), 1_024, {"loss.temperature": 0.1, "loss.queue_size": 1_024}),
        (imagenet.get_config(), 1_281_167, {"loss.queue_size": 65_536}),  # has a temperature of its own
    ],
)
def test_a_queue_has_no_more_keys_than_there_are_images(config, images, expected):
    assert own_settings.of_base("moco", config, images) == expected


def test_what_the_configuration_has_stays():
    config = digits.get_config()
    config.loss.queue_size, config.loss.temperature = 256, 0.2
    config.equivariance.hidden_size = 64
    assert own_settings.of_base("moco", config, 1_438) == {}
    assert own_settings.of_rival("essl", config) == {}


def test_what_the_command_line_has_stays_where_it_is_the_usual_value_too():
    given = ["loss.temperature", "loss.queue_size", "model.head_output_batch_norm", "evaluate.finetune.batch_size"]
    config = digits.get_config()
    assert own_settings.of_base("moco", config, 1_438, given) == {}
    assert own_settings.of_base("barlow_twins", config, 1_438, given) == {}
    assert "evaluate.finetune.batch_size" not in own_settings.fine_tuning(config, 1_438, given)
    for method in benchmark.methods(config, 1_438, given).values():
        assert not {"loss.temperature", "model.head_output_batch_norm"} & set(method.settings)


def test_what_is_set_is_said():
    rows = [row.settings for row in methods.rows(digits.get_config(), 1_438, num_steps=7).values()]
    assert own_settings.told(digits.get_config(), 1_438, (), rows).splitlines() == [
        "* moco has settings of its own: loss.temperature=0.1, loss.queue_size=1024",
        "* barlow_twins has settings of its own: model.head_output_batch_norm=True",
        "* essl has settings of its own: equivariance.hidden_size=128",
        "* augself has settings of its own: equivariance.hidden_size=128",
    ]
    assert own_settings.told(digits.get_config(), 1_438, (), [{"loss.method": "simclr"}]) == ""


def test_heads_are_cut_for_narrow_encoders_alone():
    for rival in ("essl", "augself"):
        assert own_settings.of_rival(rival, digits.get_config()) == {"equivariance.hidden_size": 128}
        assert own_settings.of_rival(rival, cifar10.get_config()) == {}  # their papers'
    assert own_settings.of_rival("equimod", digits.get_config()) == {}
    assert own_settings.of_base("barlow_twins", cifar10.get_config(), 50_000) == {"model.head_output_batch_norm": True}


def test_few_labels_are_fine_tuned_on_in_small_batches():
    def settings(config, images):
        return {
            name.removeprefix("evaluate.finetune."): value
            for name, value in own_settings.fine_tuning(config, images).items()
        }

    shared = {"enabled": True, "label_fractions": (0.1,)}
    assert settings(digits.get_config(), 1_438) == shared | {"batch_size": 32, "epochs": 20}
    assert settings(cifar10.get_config(), 50_000) == shared | {"epochs": 30}
    given = digits.get_config()
    given.evaluate.finetune.batch_size, given.evaluate.finetune.epochs = 16, 5
    assert settings(given, 1_438) == shared


@pytest.mark.parametrize(("config", "weight"), [(digits.get_config(), 0.1), (cifar10.get_config(), 0.01)])
def test_the_weight_of_care_is_the_configurations_scaled_to_the_base(config, weight):
    found = benchmark.methods(config, 1_438)
    rows = methods.rows(config, 1_438, num_steps=7)
    for base, scale in (("simclr", 1), ("moco", 1), ("byol", 10), ("barlow_twins", 10), ("vicreg", 100)):
        expected = [weight * scale / 3, weight * scale, weight * scale * 3]
        assert found[f"{base}_care"].values == pytest.approx(expected)
        assert rows[f"{base}_care"].settings["equivariance.weight"] == pytest.approx(weight * scale)
