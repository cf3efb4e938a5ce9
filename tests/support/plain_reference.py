"""The reference network once more, written plainly: public weight names, one loop a drag, one module a thing.

The oracle of the fast one: it shares no code with ``partrm.model``.
"""

import torch
from torch import nn

HALF = 0.5**0.5


class Res(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, cout), nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        y = self.conv2(nn.functional.silu(self.norm2(self.conv1(nn.functional.silu(self.norm1(x))))))
        return ((self.shortcut(x) if hasattr(self, "shortcut") else x) + y) * HALF


class Heads(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, tokens, heads):
        width = tokens.shape[-1]
        q, k, v = self.qkv(tokens).split(width, -1)
        d, out = width // heads, []
        for m in range(heads):
            one = slice(m * d, (m + 1) * d)
            weights = torch.softmax(q[..., one] @ k[..., one].transpose(1, 2) / d**0.5, -1)
            out.append(weights @ v[..., one])
        return self.proj(torch.cat(out, -1))


class Attention(nn.Module):
    def __init__(self, width, heads, views):
        super().__init__()
        self.norm, self.attn, self.heads, self.views = nn.GroupNorm(32, width), Heads(width), heads, views

    def forward(self, x):
        bv, c, h, w = x.shape
        tokens = self.norm(x).reshape(bv // self.views, self.views, c, h * w).permute(0, 1, 3, 2)
        out = self.attn(tokens.reshape(bv // self.views, self.views * h * w, c), self.heads)
        out = out.reshape(bv // self.views, self.views, h * w, c).permute(0, 1, 3, 2).reshape(x.shape)
        return (out + x) * HALF


class Block(nn.Module):
    """Residual blocks (and attentions) of one level."""

    def __init__(self, widths_in, width, attention, config, views):
        super().__init__()
        self.nets = nn.ModuleList(Res(cin, width) for cin in widths_in)
        if attention:
            self.attns = nn.ModuleList(Attention(width, config.heads, views) for _ in widths_in)

    def layer(self, i, x):
        x = self.nets[i](x)
        return self.attns[i](x) if hasattr(self, "attns") else x


class DragNet(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.linears_drags = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 128), nn.SiLU(), nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, c // 2))
            for c in widths
        )

    def features(self, scale, point):
        values = []
        for k in range(8):
            w = torch.tensor(100 ** (k / 8), dtype=point.dtype)
            values += [torch.sin(w * point), torch.cos(w * point)]
        return self.linears_drags[scale](torch.cat(values))

    def map(self, scale, points, side):
        """Blurred map [bv, c/2, s, s] of points [b, v, n, 2] in pixels of 512."""
        b, v, n, _ = points.shape
        flat, out = points.reshape(b * v, n, 2), []
        for i in range(b * v):
            cells = {}
            for p in flat[i]:
                at = (int(p[0] // (512 / side)), int(p[1] // (512 / side)))
                cells[at] = cells.get(at, 0) + self.features(scale, p)
            one = points.new_zeros(self.linears_drags[scale][-1].out_features, side, side)
            for (row, column), value in cells.items():
                one[:, row, column] = value
            out.append(one)
        line = torch.exp(-0.5 * torch.arange(-2, 3, dtype=points.dtype) ** 2)
        kernel = (line[:, None] * line / line.sum() ** 2).expand(out[0].shape[0], 1, 5, 5)
        return nn.functional.conv2d(
            nn.functional.pad(torch.stack(out), (2, 2, 2, 2), mode="reflect"), kernel, groups=kernel.shape[0]
        )


class UNet(nn.Module):
    def __init__(self, config, views, with_drags):
        super().__init__()
        down, up, n = config.down_channels, config.up_channels, config.down_layers
        self.conv_in = nn.Conv2d(9, down[0], 3, padding=1)
        before = (down[0], *down[:-1])
        if with_drags:
            self.alpha = nn.Parameter(torch.ones(()))
            self.drag_position_net = DragNet(before)
            self.conv_merges = nn.ModuleList(nn.Conv2d(2 * c, c, 3, padding=1) for c in before)
        self.down_blocks, skips = nn.ModuleList(), [down[0]]
        for i, width in enumerate(down):
            block = Block([before[i]] + [width] * (n - 1), width, config.down_attention[i], config, views)
            skips += [width] * n
            if i < len(down) - 1:
                block.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)
                skips.append(width)
            self.down_blocks.append(block)
        self.mid_block = Block([down[-1]] * 2, down[-1], False, config, views)
        self.mid_block.attns = nn.ModuleList([Attention(down[-1], config.heads, views)])
        self.up_blocks, below = nn.ModuleList(), down[-1]
        for i, width in enumerate(up):
            widths = [(below if j == 0 else width) + skips.pop() for j in range(n + 1)]
            block = Block(widths, width, config.up_attention[i], config, views)
            if i < len(up) - 1:
                block.upsample = nn.Conv2d(width, width, 3, padding=1)
            self.up_blocks.append(block)
            below = width
        self.norm_out, self.conv_out = nn.GroupNorm(32, below), nn.Conv2d(below, 14, 3, padding=1)

    def forward(self, x, start_maps, end_maps):
        x = self.conv_in(x)
        kept = [x]
        for i, block in enumerate(self.down_blocks):
            if start_maps is not None:
                x = self.conv_merges[i](torch.cat([x, start_maps[i], end_maps[i]], 1))
            for j in range(len(block.nets)):
                x = block.layer(j, x)
                kept.append(x)
            if hasattr(block, "downsample"):
                x = block.downsample(x)
                kept.append(x)
        x = self.mid_block.nets[1](self.mid_block.attns[0](self.mid_block.nets[0](x)))
        for block in self.up_blocks:
            for j in range(len(block.nets)):
                x = block.layer(j, torch.cat([x, kept.pop()], 1))
            if hasattr(block, "upsample"):
                x = block.upsample(x.repeat_interleave(2, -1).repeat_interleave(2, -2))
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


class PlainReference(nn.Module):
    """PartRM, or LGM without drags."""

    def __init__(self, config, views=4, with_drags=True):
        super().__init__()
        self.unet, self.conv = UNet(config, views, with_drags), nn.Conv2d(14, 14, 1)

    def maps(self, points, side):
        scales = range(len(self.unet.down_blocks))
        return [self.unet.drag_position_net.map(i, points, side // 2**i) for i in scales]

    def forward(self, channels, start=None, end=None):
        """Input maps [b, v, 9, s, s] and drags [b, v, n, 2] to activated Gaussians [b, n, 14]."""
        b, v, _, side, _ = channels.shape
        maps = (None, None) if start is None else (self.maps(start, side), self.maps(end, side))
        raw = self.conv(self.unet(channels.flatten(0, 1), *maps))
        raw = raw.reshape(b, v, 14, -1).permute(0, 1, 3, 2).reshape(b, -1, 14)
        parts = [raw[..., :3].clamp(-1, 1), torch.sigmoid(raw[..., 3:4]), 0.1 * nn.functional.softplus(raw[..., 4:7])]
        parts += [nn.functional.normalize(raw[..., 7:11], dim=-1), 0.5 * torch.tanh(raw[..., 11:]) + 0.5]
        return torch.cat(parts, -1)
