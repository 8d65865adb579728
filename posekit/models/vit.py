"""The plain vision transformer of ViTPose (Xu et al. 2022, arXiv 2204.12484, section 3.1 and Table 1).

    F_0 = patches(X) + positions;  F'_i = F_(i-1) + MHSA(LN(F_(i-1)));  F_i = F'_i + FFN(LN(F'_i));  result LN(F_D)

One feature map of one resolution, no class token. The position table keeps the class token's slot all the same, and
slot 0 is added to every token, as in the released code. Parameter names are those of the published weights.

Legend: B crops of H x W pixels, stride s, grid h x w = H / s x W / s, N = h w cells, C channels, D blocks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from posekit.models.windows import attention_for

# dim, blocks, heads, drop path, channels of an expert. S has 12 heads of 32 channels, not the usual 6 of 64.
SIZES = {
    "s": (384, 12, 12, 0.1, 192),
    "b": (768, 12, 12, 0.3, 192),
    "l": (1024, 24, 16, 0.5, 256),
    "h": (1280, 32, 16, 0.55, 320),
}


class PatchEmbed(nn.Module):
    """One strided convolution. `padding` None is the released rule for patches of 16 pixels: 2 at stride 16, 4 at 8."""

    def __init__(self, patch: int, ratio: int, dim: int, padding: int | None = None) -> None:
        super().__init__()
        if ratio not in (1, 2) or patch % ratio:
            raise ValueError(f"ratio is {ratio!r}; choose 1 (stride {patch}) or, for an even patch, 2 (half of it)")
        self.stride = patch // ratio
        padding = 4 + 2 * (ratio // 2 - 1) if padding is None else padding
        if not 0 <= 2 * padding - (patch - self.stride) < self.stride:
            raise ValueError(f"{padding} px of padding give patches of {patch} px at stride {self.stride} another grid")
        self.proj = nn.Conv2d(3, dim, patch, self.stride, padding)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) cells of an image of that many pixels.

        Raises:
            ValueError: the stride does not divide the size.
        """
        if height % self.stride or width % self.stride:
            fit = [max(round(side / self.stride), 1) * self.stride for side in (height, width)]
            raise ValueError(
                f"crops of {height} x {width} pixels (height x width) do not divide by the stride of {self.stride}: "
                f"cut them {fit[0]} x {fit[1]}"
            )
        return height // self.stride, width // self.stride

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, C)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, exact GELU, linear; with `experts` the second layer is split between data sets as in ViTPose+.

    ViTPose+ (Xu et al. 2023, arXiv 2212.04246) cuts it by output channels: all data sets share the first C - `part`,
    the last `part` come from the expert of the sample's data set. Joined again they are as wide as before, so for one
    data set the two are one plain layer (`merged`), at no cost.
    """

    def __init__(self, dim: int, hidden: int, experts: int = 0, part: int = 0) -> None:
        super().__init__()
        if experts and not 0 < part < dim:
            raise ValueError(f"experts of {part} channels: choose between 1 and {dim - 1}, {dim} are to be shared out")
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim - part if experts else dim)
        self.experts = nn.ModuleList(nn.Linear(hidden, part) for _ in range(experts))

    def forward(self, x: Tensor, dataset: int | Tensor = 0) -> Tensor:
        """x (B, T, C), dataset: the expert of all samples or (B,) int64, one each -> (B, T, C)."""
        hidden = F.gelu(self.fc1(x))
        shared = self.fc2(hidden)
        if not len(self.experts):
            return shared
        if not isinstance(dataset, Tensor):
            return torch.cat([shared, self.experts[dataset](hidden)], -1)
        own = shared.new_empty(*shared.shape[:2], self.experts[0].out_features)
        for index in dataset.unique().tolist():  # a sample passes its own expert only
            rows = (dataset == index).nonzero()[:, 0]
            own = own.index_copy(0, rows, self.experts[index](hidden[rows]).to(own.dtype))
        return torch.cat([shared, own], -1)

    @torch.no_grad()
    def merged(self, index: int) -> FeedForward:
        """The plain layer that does what this one does for data set `index`."""
        plain = FeedForward(self.fc1.in_features, self.fc1.out_features).to(self.fc1.weight)
        second = {
            name: torch.cat([getattr(part, name) for part in (self.fc2, self.experts[index])])
            for name in ("weight", "bias")
        }
        plain.fc1.load_state_dict(self.fc1.state_dict())
        plain.fc2.load_state_dict(second)
        return plain


class Block(nn.Module):
    """Attention and feed-forward, each after its norm and skipped at random (drop path, per sample)."""

    def __init__(self, dim: int, attention: nn.Module, mlp: nn.Module, drop_path: float, eps: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps), attention
        self.norm2, self.mlp = nn.LayerNorm(dim, eps), mlp
        self.drop_path = drop_path

    def forward(self, x: Tensor, grid: tuple[int, int], dataset: int | Tensor = 0) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = x + self._drop(self.attn(self.norm1(x), grid))
        return x + self._drop(self.mlp(self.norm2(x), dataset))

    def _drop(self, x: Tensor) -> Tensor:
        if not (self.drop_path and self.training):
            return x
        from torchvision.ops import stochastic_depth  # slow to import, and only training needs it

        return stochastic_depth(x, self.drop_path, "row")


class ViT(nn.Module):
    """See the module's docstring.

    Args:
        crop_size: (width, height) in pixels of the crops that the position table is made for; crops of another size
            get the table resampled (bicubic), as long as the stride divides them.
        ratio: 1 = stride of a whole patch, 2 = of half a patch, so four times the tokens.
        attention, window: see `windows.py`; (rows, columns) in cells.
        drop_path: rate of the last block; it grows linearly from 0.
        eps: of the layer norms. 1e-6 in the released code; transformers' configuration says 1e-12.
        experts, part: ViTPose+'s feed-forward experts, `part` channels each; 0 = none.
        knowledge_token: one more learned token beside the crop's, without a position (token distillation).
        checkpoint_blocks: keep no activations inside the blocks in training, compute them again backwards.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        crop_size: tuple[int, int] = (192, 256),
        patch: int = 16,
        ratio: int = 1,
        padding: int | None = None,
        mlp_ratio: float = 4.0,
        attention: str = "full",
        window: tuple[int, int] = (8, 8),
        drop_path: float = 0.0,
        eps: float = 1e-6,
        experts: int = 0,
        part: int = 0,
        knowledge_token: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.checkpoint_blocks = dim, checkpoint_blocks
        embed = PatchEmbed(patch, ratio, dim, padding)
        self.stride, self.grid = embed.stride, embed.grid(crop_size[1], crop_size[0])
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1] + 1, dim))
        self.patch_embed = embed
        self.blocks = nn.ModuleList()
        for block in range(depth):
            attn = attention_for(attention, dim, heads, window, block)
            mlp = FeedForward(dim, int(dim * mlp_ratio), experts, part)
            self.blocks.append(Block(dim, attn, mlp, drop_path * block / max(depth - 1, 1), eps))
        self.last_norm = nn.LayerNorm(dim, eps)
        self.knowledge_token = nn.Parameter(torch.zeros(1, 1, dim)) if knowledge_token else None
        self._kept_still: list[nn.Module] = []
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for table in (self.pos_embed, self.knowledge_token):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """images (B, 3, H, W) -> tokens with their positions (B, N, C), and the grid (h, w).

        Raises:
            ValueError: the stride does not divide H and W.
        """
        grid = self.patch_embed.grid(*images.shape[-2:])
        table = resample_positions(self.pos_embed, self.grid, grid)
        return self.patch_embed(images) + table[:, 1:] + table[:, :1], grid

    def encode(self, tokens: Tensor, grid: tuple[int, int], dataset: int | Tensor = 0) -> Tensor:
        """tokens (B, T, C) -> (B, T, C), through all blocks and the last norm. Full attention takes any T (a masked
        autoencoder's visible tokens, say); the knowledge token joins and leaves here."""
        count = tokens.shape[1]
        if self.knowledge_token is not None:
            tokens = torch.cat([tokens, self.knowledge_token.expand(len(tokens), -1, -1).to(tokens.dtype)], 1)
        recompute = self.checkpoint_blocks and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            if recompute:
                tokens = checkpoint(block, tokens, grid, dataset, use_reentrant=False)
            else:
                tokens = block(tokens, grid, dataset)
        return self.last_norm(tokens)[:, :count]

    def forward(self, images: Tensor, dataset: int | Tensor = 0) -> Tensor:
        """images (B, 3, H, W), dataset: the expert of all crops or (B,) one each -> features (B, C, h, w)."""
        tokens, grid = self.embed(images)
        return self.encode(tokens, grid, dataset).transpose(1, 2).unflatten(2, grid)

    def freeze(self, attention: bool = False, ffn: bool = False, stages: int = -1, released: bool = False) -> None:
        """Train only a part (ViTPose, Table 5). What was frozen before is trained again first.

        attention: not the attention and `norm1` of any block. ffn: not the feed-forward and `norm2` of any block, the
        patch embedding and the position table. stages: -1 none, 0 the patch embedding, n besides the first n blocks,
        which also stop to drop paths. `released=True` freezes blocks 1 to n instead, so never block 0, as the released
        code does by an index that starts at one.
        """
        if stages > len(self.blocks):
            raise ValueError(f"{stages} stages to freeze, but the transformer has {len(self.blocks)} blocks")
        self.requires_grad_(True)
        self._kept_still = [self.patch_embed, *self.blocks[int(released) : int(released) + stages]] * (stages >= 0)
        parts: list[nn.Module | nn.Parameter] = [*self._kept_still, *[self.patch_embed, self.pos_embed] * ffn]
        for block in self.blocks:
            parts += [block.attn, block.norm1] * attention + [block.mlp, block.norm2] * ffn
        for part in parts:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> ViT:
        """As ever, but frozen stages stay in evaluation mode. (In the released code this returns nothing.)"""
        super().train(mode)
        for module in self._kept_still:
            module.eval()
        return self


def resample_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A position table (1, 1 + old cells, C) for another grid (rows, columns): bicubic, slot 0 kept."""
    if old == new:
        return table
    cells = table[:, 1:].transpose(1, 2).unflatten(2, old)
    cells = F.interpolate(cells.float(), size=new, mode="bicubic", align_corners=False).to(table.dtype)
    return torch.cat([table[:, :1], cells.flatten(2).transpose(1, 2)], 1)


def sine_positions(grid: tuple[int, int], dim: int) -> Tensor:
    """Fixed positions (1, N, dim) of the cells of a grid (rows, columns), those of masked autoencoders: sines and
    cosines, half of the channels for x, half for y; the longest wave is 10,000 x 2 pi cells.

    Raises:
        ValueError: `dim` is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"{dim} channels cannot hold sine and cosine of x and y; choose a multiple of 4")
    waves = 10_000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * waves for axis in (columns, rows)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)[None].float()


def grid_of(rows: int) -> tuple[int, int]:
    """The grid (rows, columns) of a table with that many rows, slot 0 included: a square or upright 4:3.

    Raises:
        ValueError: neither fits.
    """
    cells = max(rows - 1, 0)
    for tall, wide in ((1, 1), (4, 3)):
        unit = math.isqrt(cells // (tall * wide))
        if unit and unit * unit * tall * wide == cells:
            return tall * unit, wide * unit
    raise ValueError(f"a position table of {rows} rows is neither of a square nor of an upright 4:3 grid")
