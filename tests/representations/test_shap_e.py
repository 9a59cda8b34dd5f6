"""Shap-E's folder and meshes, on a tiny pipeline of the real classes."""

from functools import partialmethod

import pytest
import torch
from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEPipeline
from diffusers.pipelines.shap_e.camera import create_pan_cameras
from diffusers.pipelines.shap_e.renderer import MeshDecoderOutput, ShapERenderer
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from hash3d.representations.point_start import GrowthConfig
from hash3d.representations.shap_e import ShapEConfig, from_shap_e, load_shap_e
from prior_training.tokenizer import build_tokenizer


def tiny_shap_e() -> ShapEPipeline:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["a", "mug"])
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        projection_dim=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        embedding_dim=16,
        num_embeddings=32,
        embedding_proj_dim=16,
        clip_embed_dim=32,
        time_embed_dim=64,
        num_layers=1,
        time_embed_act_fn="gelu",
        additional_embeddings=0,
        embedding_proj_norm_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
    )
    renderer = ShapERenderer(
        param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=16, d_hidden=8, n_output=12, background=(1.0, 1.0, 1.0)
    )
    # Its table of triangles comes with the weights. One inside corner: a triangle over the three edges at it.
    renderer.mesh_decoder.cases[1, 0] = torch.tensor([0, 4, 8])
    renderer.mesh_decoder.masks[1, 0] = True
    return ShapEPipeline(
        prior=prior,
        text_encoder=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        scheduler=HeunDiscreteScheduler(
            beta_schedule="exp", prediction_type="sample", use_karras_sigmas=True, clip_sample=True
        ),
        shap_e_renderer=renderer,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shap_e")
    tiny_shap_e().save_pretrained(path)
    return path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_folder_makes_a_start_that_repeats_with_its_seed(folder, monkeypatch):
    coarse = partialmethod(ShapERenderer.decode_to_mesh, grid_size=24)  # 128 takes 8 s
    monkeypatch.setattr(ShapERenderer, "decode_to_mesh", coarse)
    config = ShapEConfig(folder=folder, prompt="a mug", num_steps=2, growth=GrowthConfig(num_candidates=2000))
    start = config.build(torch.Generator().manual_seed(0))
    assert len(start) > 20
    assert start.points.isfinite().all()
    # Shap-E's box is [-1, 1]^3 and one empty cell around, of 25.
    assert start.points.abs().max() <= 1.6 * 1.1
    assert 0 <= start.colors.min() <= start.colors.max() <= 1
    again = config.build(torch.Generator().manual_seed(0))
    assert torch.equal(start.points, again.points)
    assert torch.equal(start.colors, again.colors)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_folder_in_half_precision_loads_in_full(folder, tmp_path):
    load_shap_e(folder).save_pretrained(tmp_path, variant="fp16")
    pipeline = load_shap_e(tmp_path)
    for part in (pipeline.prior, pipeline.text_encoder, pipeline.shap_e_renderer):
        assert next(part.parameters()).dtype == torch.float32


def test_its_vertices_stand_upright_facing_us():
    axes = torch.eye(3)
    linear = {name: torch.full((3,), 0.214) for name in "RGB"}
    start = from_shap_e(MeshDecoderOutput(verts=axes, faces=torch.zeros(0, 3).long(), vertex_channels=linear))
    assert start.points.tolist() == [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    # sRGB of 0.214 is a half: 1.055 0.214^(1 / 2.4) - 0.055 = 0.500.
    torch.testing.assert_close(start.colors, torch.full((3, 3), 0.5), atol=1e-3, rtol=0)
    # Its first camera looks at the front from a little above: our +z and +y.
    eye = create_pan_cameras(8).origin[:1]
    seen = from_shap_e(MeshDecoderOutput(verts=eye, faces=axes.long(), vertex_channels=dict.fromkeys("RGB", eye[:, 0])))
    assert seen.points[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert seen.points[0, 2] > seen.points[0, 1] > 0


def test_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"holds no model_index\.json"):
        load_shap_e(tmp_path)
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(ValueError, match="Expected a folder of Shap-E in safetensors"):
        load_shap_e(tmp_path)
