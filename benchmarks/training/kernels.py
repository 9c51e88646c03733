"""Memory traffic of the CUDA scan kernels: `python -m benchmarks.training.kernels`.

For each kernel, forward and backward, the benchmark reports:

- the median time;
- the bytes that any implementation must move (each input read once, each output written once);
- the bytes that our kernel requests (counted from its loads and stores, see `moved`);
- the rate of the requested bytes, as a share of the rate of a plain copy on the same GPU in the same run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import hardware, skip, write_result
from infra.pages import markdown_table
from models.ss4rec.kernels import causal_convolution, selective_scan, time_scan
from models.windows import Segments

HALF, FULL = 2, 4  # bytes
SHAPES = {
    "best preset, a step": {"windows": 64, "length": 128, "channels": 256, "states": 8, "time_states": 32},
    "paper preset, a step of 32k": {"windows": 256, "length": 128, "channels": 128, "states": 32, "time_states": 32},
    "best preset, 128k events": {"windows": 1024, "length": 128, "channels": 256, "states": 8, "time_states": 32},
}


def main() -> None:
    """Measure every shape, write the result and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kernels.json"))
    given = parser.parse_args()
    if not torch.cuda.is_available():
        skip("this benchmark measures CUDA kernels and there is no GPU.")
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        result = _measure()
    write_result(given.out, result)
    print(render(result))


def _measure() -> dict[str, Any]:
    copy = _copy_rate()
    result: dict[str, Any] = {"hardware": hardware(), "copy_gb_s": copy / 1e9, "shapes": {}}
    for name, shape in SHAPES.items():
        found = {}
        for kernel, (forward, backward, floor, moved) in _kernels(**shape).items():
            for part, run in (("forward", forward), ("backward", backward)):
                seconds = _median(run)
                found[f"{kernel} {part}"] = {
                    "us": seconds * 1e6,
                    "floor_mb": floor[part] / 1e6,
                    "moved_mb": moved[part] / 1e6,
                    "share_of_copy_rate": moved[part] / seconds / copy,
                }
        result["shapes"][name] = {**shape, "kernels": found}
    return result


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    rows = []
    for name, shape in result["shapes"].items():
        for kernel, row in shape["kernels"].items():
            moved = [f"{row['us']:.0f}", f"{row['floor_mb']:.1f}", f"{row['moved_mb']:.1f}"]
            rows.append([name, kernel, *moved, f"{100 * row['share_of_copy_rate']:.0f} %"])
    table = markdown_table(["shape", "kernel", "µs", "must move, MB", "moves, MB", "share of the copy rate"], rows)
    return f"{table}\n\nA copy moves {result['copy_gb_s']:.0f} GB/s (read and written)."


def floor(tokens: int, channels: int, states: int, time_states: int) -> dict[str, dict[str, int]]:
    """Return the minimum number of bytes: inputs plus outputs.

    A backward pass reads the inputs and the outputs' gradients, and writes the inputs' gradients. Parameters are too small to
    count.
    """
    wide, narrow, pair = tokens * channels * HALF, tokens * states * HALF, tokens * 2 * time_states * HALF
    return {
        # drive, interval -> h
        "time": {"forward": 2 * pair + tokens * FULL, "backward": 3 * pair + tokens * FULL},
        # u, delta, gate, b, c -> y
        "selective": {"forward": 4 * wide + 2 * narrow, "backward": 7 * wide + 4 * narrow},
        "convolution": {"forward": 2 * wide, "backward": 3 * wide},
    }


def moved(tokens: int, windows: int, channels: int, states: int, time_states: int) -> dict[str, dict[str, int]]:
    """Return the bytes that the kernels' loads and stores request, whichever cache serves them."""
    from models.ss4rec.kernels.scan_cuda import BACKWARD_CHANNELS, CHANNELS, CHUNK, CHUNKS

    wide, full = tokens * channels * HALF, tokens * channels * FULL
    narrow, pair = tokens * states * HALF, tokens * 2 * time_states * HALF
    slots = tokens // CHUNK + windows
    kept = slots * states * channels * FULL
    blocks, backward_blocks = -(-channels // CHANNELS), -(-channels // BACKWARD_CHANNELS)
    programs = -(-slots // CHUNKS)
    # Every block of channels reads b and c. The backward pass reads u, steps, dy and b once more to recompute the states.
    carry = 2 * full + 3 * wide + wide - full + blocks * narrow + kept
    backward = kept * 2 + 2 * full + 2 * wide + full + 2 * wide + backward_blocks * (3 * narrow + 2 * tokens * states * FULL)
    return {
        "time": {"forward": 2 * pair + tokens * FULL, "backward": 4 * pair + tokens * FULL},
        "selective": {
            "forward": 4 * wide + 2 * full + blocks * 2 * narrow + kept,
            "backward": carry + backward + programs * (states + 2) * channels * FULL,
        },
        "convolution": {"forward": (4 + 2) * wide, "backward": (1 + 4 + 4 + 1) * wide},
    }


Kernel = tuple[Callable[[], Any], Callable[[], Any], dict[str, int], dict[str, int]]


def _kernels(windows: int, length: int, channels: int, states: int, time_states: int) -> dict[str, Kernel]:
    tokens, device = windows * length, torch.device("cuda")
    torch.manual_seed(0)
    segments = Segments.of(torch.arange(0, tokens + 1, length, device=device), tokens)

    def leaf(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype).requires_grad_()

    float32 = torch.float32
    selective = [
        leaf(tokens, channels), leaf(tokens, channels), leaf(tokens, channels), leaf(channels, states, dtype=float32),
        leaf(tokens, states), leaf(tokens, states), leaf(channels, dtype=float32), leaf(channels, dtype=float32),
    ]  # fmt: skip
    time = [
        leaf(tokens, 2 * time_states),
        torch.rand(tokens, device=device) * 500,
        (-torch.rand(time_states, device=device) - 0.1).requires_grad_(),
        leaf(time_states, dtype=float32),
        (torch.rand(time_states, device=device) * 4 - 7).requires_grad_(),
    ]
    convolution = [leaf(tokens, channels), leaf(channels, 4, dtype=float32), leaf(channels, dtype=float32)]
    calls: dict[str, tuple[Callable[[], torch.Tensor], list[torch.Tensor]]] = {
        "time": (lambda: time_scan(*time, segments, backend="cuda")[0], time),  # type: ignore[misc, arg-type]
        "selective": (lambda: selective_scan(*selective, segments, backend="cuda")[0], selective),  # type: ignore[misc, arg-type]
        "convolution": (lambda: causal_convolution(*convolution, segments, backend="cuda"), convolution),  # type: ignore[misc, arg-type]
    }
    least = floor(tokens, channels, states, time_states)
    asked = moved(tokens, windows, channels, states, time_states)
    found: dict[str, Kernel] = {}
    for name, (forward, leaves) in calls.items():
        output = forward()
        gradient, inputs = torch.randn_like(output), [value for value in leaves if value.requires_grad]

        def backward(
            output: torch.Tensor = output, inputs: list[torch.Tensor] = inputs, gradient: torch.Tensor = gradient
        ) -> Any:
            return torch.autograd.grad(output, inputs, gradient, retain_graph=True)

        found[name] = forward, backward, least[name], asked[name]
    return found


def _median(run: Callable[[], Any], repeats: int = 30) -> float:
    """Return the median seconds on the device.

    The call is replayed from a CUDA graph, which excludes launches from Python. The caches are flushed before each replay.
    """
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    for _ in range(3):
        run()
    graph = torch.cuda.CUDAGraph()
    # The backward pass runs on the stream of its forward pass, so everything here runs on a stream that can be captured.
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        run()
    seconds = []
    for _ in range(repeats):
        flush.zero_()
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        before.record()
        graph.replay()
        after.record()
        torch.cuda.synchronize()
        seconds.append(before.elapsed_time(after) / 1000)
    return float(torch.tensor(seconds).median())


def _copy_rate() -> float:
    source = torch.empty(1 << 28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    # This is a kernel on purpose: in a graph, copy_ becomes a transfer by the copy engine, which is slower.
    return 2 * source.numel() * FULL / _median(lambda: torch.mul(source, 1.0, out=target))


if __name__ == "__main__":
    main()
