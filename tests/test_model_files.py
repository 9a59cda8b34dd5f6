"""Configurations of somebody else's model: numbers, names of code, depth."""

import json
import os

import pytest

from hash3d.model_files import expect_depth, expect_plain_files, read_configuration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "a is nan"),
        ('{"a": [1, {"b": 1e999}]}', "b is inf"),
        ('{"a": 1048577}', "numbers up to 1,048,576"),
        ("[1]", "holds a list"),
        ("{", "Expected a readable JSON object"),
        ("[" * 100_000, "Expected a readable JSON object"),
        ('{"a": "' + "x" * 2**20 + '"}', "more than 1,048,576 bytes"),
        ('{"auto_map": {"AutoModel": "evil.Evil"}}', "name no code, but it has auto_map"),
        ('{"text_config": {"_attn_implementation": "evil/kernel"}}', "name no code"),
    ],
)
def test_refusals(text, message, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_configuration(file)
    assert str(file) in str(caught.value)


def test_what_models_say_is_read(tmp_path):
    config = {"a": 1048576, "b": [1.5, None, True], "_attn_implementation": "sdpa", "auto_map": None, "c": "x/y"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_configuration(tmp_path / "config.json") == config


def test_depth_is_blocks_times_layers():
    config = {"block_out_channels": [1, 2, 3], "layers_per_block": 4, "transformer_layers_per_block": [1, [2, 5]]}
    expect_depth(config, 60)
    with pytest.raises(ValueError, match="60 layers, but its weights have 59 tensors"):
        expect_depth(config, 59)


def test_a_pipe_in_a_folder_is_refused(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    expect_plain_files(tmp_path)
    os.mkfifo(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors is neither\. Remove it\.$"):
        expect_plain_files(tmp_path)
