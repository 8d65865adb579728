"""A masked autoencoder (He et al. 2022, arXiv 2111.06377): what ViTPose's transformers are trained as before they see a
joint (Xu et al. 2022: pre-trained on crops of people alone they do about as well as with ImageNet).

Most patches of a crop are masked. The transformer sees the others only (a quarter of the tokens, so a quarter of the
cost); a light decoder gets its tokens, a learned mask token in every masked place, and all positions, and predicts
the pixels of the patches. Only the transformer is kept: `backbone.*` of its weights starts a ViTPose.

# differs from paper: no class token; the transformer's position table begins as the paper's fixed one and is learned,
because ViTPose's is; its last norm is the pose model's too.

Legend: B crops of H x W pixels, patches of p x p, grid h x w, N = h w, V visible ones, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.vit import Block, FeedForward, ViT, sine_positions
from posekit.models.windows import Attention

EPS = 1e-6


class MaskedAutoencoder(nn.Module):
    """See the module's docstring. Patches to be predicted have mean 0 and variance 1 each (the paper's better targets).

    Args:
        crop_size: (width, height) in pixels.
        masked: share of the patches that the transformer does not see, in (0, 1).
        decoder_dim, decoder_depth, decoder_heads: of the decoder's blocks.
        vit: arguments of `ViT`, with full attention over patches that do not overlap.
    """

    num_keypoints = 0  # it predicts no pose

    def __init__(
        self,
        *,
        crop_size: tuple[int, int] = (192, 256),
        masked: float = 0.75,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        **vit,
    ) -> None:
        super().__init__()
        backbone = ViT(crop_size=crop_size, **vit)
        patch = backbone.patch_embed.proj.kernel_size[0]
        if backbone.stride != patch:
            raise ValueError(
                f"patches of {patch} pixels at stride {backbone.stride} overlap, so a masked one could be read off its "
                "neighbours: pre-train with ratio=1, the weights start a model of ratio=2 as well"
            )
        if any(block.attn.window for block in backbone.blocks):
            raise ValueError("windows need all tokens of the grid: pre-train with attention='full', same weights")
        cells = backbone.grid[0] * backbone.grid[1]
        self.visible = round((1 - masked) * cells)
        if not 0 < self.visible < cells:
            raise ValueError(f"masked is {masked!r}: of {cells} patches, some must be visible and some masked")
        self.input, self.crop_size, self.stride = InputSpec(size=max(crop_size), fit="crop"), crop_size, patch
        self.backbone = backbone
        self.decoder_embed = nn.Linear(backbone.channels, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder_blocks = nn.ModuleList(
            Block(dim, Attention(dim, decoder_heads), FeedForward(dim, 4 * dim), drop_path=0.0, eps=EPS)
            for dim in [decoder_dim] * decoder_depth
        )
        self.decoder_norm = nn.LayerNorm(decoder_dim, EPS)
        self.decoder_pred = nn.Linear(decoder_dim, 3 * patch * patch)
        self.register_buffer("decoder_positions", sine_positions(backbone.grid, decoder_dim), persistent=False)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("backbone."):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)
        with torch.no_grad():
            backbone.pos_embed.zero_()[:, 1:] = sine_positions(backbone.grid, backbone.channels)

    def forward(
        self, images: Tensor, padding_mask: Tensor | None = None, dataset: int | Tensor = 0
    ) -> dict[str, Tensor]:
        """Normalised crops (B, 3, H, W) -> what a reconstruction is judged by.

        `patches` (B, N, 3 p p) predicted, `true_patches` likewise, `masked` (B, N) bool. In training what is masked is
        drawn from torch's CPU generator; in evaluation it is the same every time. `dataset`: as in ViTPose.

        Raises:
            ValueError: crops of another size.
        """
        tokens, grid = self.backbone.embed(images)
        if grid != self.backbone.grid:
            raise ValueError(f"crops of {images.shape[3]} x {images.shape[2]} pixels: pre-trained are {self.crop_size}")
        visible, masked = random_masking(len(images), tokens.shape[1], self.visible, None if self.training else 0)
        visible, masked = visible.to(tokens.device), masked.to(tokens.device)
        tokens = tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[2]))
        patches = self.decode_patches(self.backbone.encode(tokens, grid, dataset), visible, grid)
        return {"patches": patches, "true_patches": self.true_patches(images), "masked": masked}

    def decode_patches(self, features: Tensor, visible: Tensor, grid: tuple[int, int]) -> Tensor:
        """The decoder: features (B, V, C) of the patches `visible` (B, V) -> all patches (B, N, 3 p p)."""
        features = self.decoder_embed(features)
        tokens = self.mask_token.to(features.dtype).expand(len(features), self.decoder_positions.shape[1], -1)
        index = visible[..., None].expand(-1, -1, features.shape[2])
        tokens = tokens.scatter(1, index, features) + self.decoder_positions
        for block in self.decoder_blocks:
            tokens = block(tokens, grid)
        return self.decoder_pred(self.decoder_norm(tokens))

    def true_patches(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, 3 p p), each patch normalised."""
        patches, mean, deviation = patches_of(images, self.stride)
        return (patches - mean) / deviation

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> dict[str, Tensor]:
        """For figures: normalised crops in, `reconstructed` (B, 3, H, W) with the model's patches where they were
        masked, in the colours of `images` (a patch gets its own mean and deviation back), and `masked` (B, h, w)."""
        outputs, grid = self(images), self.backbone.grid
        own, mean, deviation = patches_of(images, self.stride)
        patches = torch.where(outputs["masked"][..., None], outputs["patches"].float() * deviation + mean, own)
        whole = F.pixel_shuffle(patches.mT.unflatten(2, grid), self.stride)
        return {"reconstructed": whole, "masked": outputs["masked"].unflatten(1, grid)}


def patches_of(images: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The patches (B, N, 3 p p) of images (B, 3, H, W), their means and their deviations (B, N, 1)."""
    patches = F.pixel_unshuffle(images.float(), side).flatten(2).mT
    return patches, patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


def random_masking(crops: int, patches: int, visible: int, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """(indices of the visible patches (crops, visible), masked (crops, patches) bool), uniform, each crop its own.

    `seed` None: from torch's CPU generator, whose state a resumed run restores, whatever the device.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    chosen = torch.rand(crops, patches, generator=generator).argsort(1)[:, :visible]
    return chosen, torch.ones(crops, patches, dtype=torch.bool).scatter_(1, chosen, False)


def mae_tiny(**overrides) -> MaskedAutoencoder:
    """The autoencoder of `vitpose_tiny`: 12 of 48 patches are visible. Paths are not dropped (paper)."""
    size = {"dim": 128, "depth": 4, "heads": 4, "mlp_ratio": 2.0, "patch": 12, "padding": 0, "part": 32}
    decoder = {"crop_size": (72, 96), "decoder_dim": 64, "decoder_depth": 2, "decoder_heads": 4}
    return MaskedAutoencoder(**size | decoder | overrides)
