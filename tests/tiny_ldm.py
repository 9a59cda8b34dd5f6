"""A small U-Net in the published layout of LDM, written anew: its parts, their names, and the names of its weights.

Rombach et al. 2022, https://github.com/CompVis/latent-diffusion; the same layout serves Stable Diffusion and Zero123.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class ResBlock(nn.Module):
    def __init__(self, channels, emb_channels, out_channels):
        super().__init__()
        self.channels, self.out_channels = channels, out_channels
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, out_channels))
        conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out_channels), nn.SiLU(), nn.Dropout(0.0), conv)
        same = out_channels == channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x, emb):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    def __init__(self, width, context_dim, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = (nn.Linear(context_dim, width, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x, context=None):
        context = x if context is None else context
        parts = (self.to_q(x), self.to_k(context), self.to_v(context))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class GEGLU(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    def __init__(self, width, context_dim, heads):
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(width, width, heads), CrossAttention(width, context_dim, heads)
        self.ff = FeedForward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x, context):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    block = BasicTransformerBlock

    def __init__(self, channels, context_dim, heads, depth=1, linear=False):
        super().__init__()
        self.norm, self.linear = nn.GroupNorm(32, channels, eps=1e-6), linear
        self.proj_in, self.proj_out = (
            nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1) for _ in range(2)
        )
        self.transformer_blocks = nn.ModuleList([self.block(channels, context_dim, heads) for _ in range(depth)])

    def forward(self, x, context, **more):
        h = self.norm(x)
        tokens = (h if self.linear else self.proj_in(h)).flatten(2).transpose(1, 2)
        tokens = self.proj_in(tokens) if self.linear else tokens
        for block in self.transformer_blocks:
            tokens = block(tokens, context, **more)
        tokens = self.proj_out(tokens) if self.linear else tokens
        h = tokens.transpose(1, 2).unflatten(2, h.shape[2:])
        return (h if self.linear else self.proj_out(h)) + x


class BasicTransformerBlock3D(BasicTransformerBlock):
    """MVDream's: the views of a prompt attend to each other."""

    def forward(self, x, context, num_frames):
        joined = x.unflatten(0, (-1, num_frames)).flatten(1, 2)
        x = (joined + self.attn1(self.norm1(joined))).unflatten(1, (num_frames, -1)).flatten(0, 1)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer3D(SpatialTransformer):
    block = BasicTransformerBlock3D


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.out_channels = channels
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class TimestepEmbedSequential(nn.Sequential):
    def forward(self, x, emb, context=None, **more):
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, **more)
            else:
                x = layer(x)
        return x


class UNetModel(nn.Module):
    """As `openaimodel.UNetModel`; two residual blocks at each resolution.

    `depths`: transformer layers at each, by default one but at the lowest. Stable Diffusion XL (`sgm`) has 0, 2 and 10,
    heads of 64 channels, linear projections (`linear`), and `y` of `label_channels` added to the timestep.
    """

    transformer = SpatialTransformer

    def __init__(
        self, in_channels=4, model_channels=32, channel_mult=(1, 2, 2), num_heads=4, context_dim=24, depths=None,
        label_channels=None,
    ):  # fmt: skip
        super().__init__()
        linear = label_channels is not None
        self.model_channels, time_dim = model_channels, 4 * model_channels
        self.time_embed = nn.Sequential(nn.Linear(model_channels, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))
        if linear:
            parts = nn.Linear(label_channels, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
            self.label_emb = nn.Sequential(nn.Sequential(*parts))
        channels, lowest = model_channels, len(channel_mult) - 1
        depths = depths or (*[1] * lowest, 0)
        self.input_blocks = nn.ModuleList([TimestepEmbedSequential(nn.Conv2d(in_channels, channels, 3, padding=1))])
        skips = [channels]

        def transformer(channels, depth):
            return self.transformer(channels, context_dim, num_heads or channels // 64, depth, linear)

        def layers(enters, leaves, level):
            return [
                ResBlock(enters, time_dim, leaves),
                *([transformer(leaves, depths[level])] if depths[level] else []),
            ]

        for level, factor in enumerate(channel_mult):
            for _ in range(2):
                self.input_blocks.append(TimestepEmbedSequential(*layers(channels, factor * model_channels, level)))
                channels = factor * model_channels
                skips.append(channels)
            if level < lowest:
                self.input_blocks.append(TimestepEmbedSequential(Downsample(channels)))
                skips.append(channels)
        self.middle_block = TimestepEmbedSequential(
            ResBlock(channels, time_dim, channels),
            transformer(channels, depths[-1] or 1),
            ResBlock(channels, time_dim, channels),
        )
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(channel_mult))):
            for number in range(3):
                block = layers(channels + skips.pop(), channels := factor * model_channels, level)
                if level and number == 2:
                    block.append(Upsample(channels))
                self.output_blocks.append(TimestepEmbedSequential(*block))
        self.out = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, 4, 3, padding=1))

    def forward(self, x, timesteps=None, context=None, y=None, control=None, features_adapter=None, **more):
        half = self.model_channels // 2
        angles = timesteps[:, None] * torch.exp(-math.log(10000) / half * torch.arange(half)).to(timesteps.device)
        emb, hs = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1).to(x)), []
        emb, h = emb if y is None else emb + self.label_emb(y), x
        for number, block in enumerate(self.input_blocks):
            h = block(h, emb, context, **more)
            if features_adapter is not None and number % 3 == 2:
                h = h + features_adapter[number // 3]
            hs.append(h)
        h = self.middle_block(h, emb, context, **more)
        if control is not None:
            h = h + control.pop()
        for block in self.output_blocks:
            skip = hs.pop() if control is None else hs.pop() + control.pop()
            h = block(torch.cat([h, skip], dim=1), emb, context, **more)
        return self.out(h)


class MultiViewUNetModel(UNetModel):
    """As MVDream's, without the embedding of the cameras."""

    transformer = SpatialTransformer3D


class DiffusionWrapper(nn.Module):
    """LDM's, around the U-Net of a hybrid model such as Zero123."""

    def __init__(self, unet):
        super().__init__()
        self.diffusion_model = unet

    def forward(self, x, t, c_concat, c_crossattn):
        return self.diffusion_model(torch.cat([x, *c_concat], dim=1), t, context=torch.cat(c_crossattn, dim=1))


def tiny_ldm(kind=UNetModel, **changes):
    """With random weights, in eval mode."""
    torch.manual_seed(0)
    return kind(**changes).eval().requires_grad_(False)


def ldm_inputs(unet, views=1, seed=0):
    """Random inputs of a guidance pair, whose branches have the same noisy latents."""
    generator = torch.Generator().manual_seed(seed)
    channels, width = unet.input_blocks[0][0].in_channels, unet.middle_block[1].transformer_blocks[0].attn2.to_k
    return {
        "x": torch.randn(views, channels, 8, 8, generator=generator).repeat(2, 1, 1, 1),
        "timesteps": torch.full((2 * views,), 400),
        "context": torch.randn(2 * views, 5, width.in_features, generator=generator),
    }
