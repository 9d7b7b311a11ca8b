"""Batch norm whose statistics are shared between ranks."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kmax.model.norm import BatchNorm, ChannelLayerNorm


def inputs(channels: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    offsets = 10.0 * torch.arange(channels).view(1, -1, 1, 1)
    x = 3.0 * torch.randn(8, channels, 7, 9, generator=generator) + offsets
    return x, torch.randn(8, channels, 7, 9, generator=generator)


def step(biased: bool, x: torch.Tensor, grad: torch.Tensor, gelu: bool = False) -> dict[str, torch.Tensor]:
    norm = BatchNorm(x.shape[1], biased_moving_variance=biased)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, x.shape[1]))
    x = x.clone().requires_grad_(True)
    out = norm(x, "gelu" if gelu else None)
    out.backward(grad)
    return {
        "out": out.detach(),
        "input gradient": x.grad,
        "weight gradient": norm.weight.grad,
        "bias gradient": norm.bias.grad,
        "running mean": norm.running_mean,
        "running variance": norm.running_var,
    }


# Biased moving variance, images of the first rank, GELU.
CASES = [(True, 4, False), (False, 4, False), (False, 1, False), (False, 3, True)]


def worker(rank: int, store: str, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    x, grad = inputs()
    for case, (biased, cut, gelu) in enumerate(CASES):
        part = slice(0, cut) if rank == 0 else slice(cut, None)
        found = step(biased, x[part], grad[part], gelu)
        results.put((case, rank, {name: t.numpy() for name, t in found.items()}))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    """What each of two processes found, for each case and rank."""
    context = mp.get_context("spawn")
    results = context.Queue()
    store = str(tmp_path_factory.mktemp("ranks") / "store")
    ranks = [context.Process(target=worker, args=(rank, store, results)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    found = [results.get(timeout=300) for _ in ranks for _ in CASES]
    for process in ranks:
        process.join(timeout=60)
        assert process.exitcode == 0
    return {
        (case, rank): {name: torch.from_numpy(value) for name, value in values.items()}
        for case, rank, values in found
    }


@pytest.mark.parametrize("case", range(len(CASES)), ids=str)
def test_two_ranks_normalise_as_one_rank_of_the_whole_batch(two_ranks, case):
    """Outputs, gradients and moving statistics; also when the ranks' parts differ in size."""
    biased, _, gelu = CASES[case]
    whole = step(biased, *inputs(), gelu)
    parts = [two_ranks[case, rank] for rank in (0, 1)]
    for name in ("out", "input gradient"):
        joined = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(joined, whole[name], rtol=1e-4, atol=1e-5)
    for name in ("weight gradient", "bias gradient"):
        torch.testing.assert_close(parts[0][name] + parts[1][name], whole[name], rtol=1e-4, atol=1e-4)
    for name in ("running mean", "running variance"):
        assert torch.equal(parts[0][name], parts[1][name])
        torch.testing.assert_close(parts[0][name], whole[name], rtol=1e-5, atol=1e-6)


def test_one_rank_computes_what_torch_computes():
    x, grad = inputs()
    ours = step(False, x, grad)
    reference = torch.nn.BatchNorm2d(5, eps=1e-3, momentum=0.01)
    with torch.no_grad():
        reference.weight.copy_(torch.linspace(0.5, 2.0, 5))
    out = reference(x)
    torch.testing.assert_close(ours["out"], out.detach())
    torch.testing.assert_close(ours["running mean"], reference.running_mean)
    torch.testing.assert_close(ours["running variance"], reference.running_var, rtol=1e-4, atol=1e-5)


def test_biased_and_unbiased_moving_variance_differ_by_n_over_n_minus_one():
    x, grad = inputs()
    biased, unbiased = step(True, x, grad), step(False, x, grad)
    n = 8 * 7 * 9
    moved = (unbiased["running variance"] - 0.99) / (biased["running variance"] - 0.99)
    torch.testing.assert_close(moved, torch.full((5,), n / (n - 1)), rtol=1e-3, atol=0)
    assert torch.equal(biased["out"], unbiased["out"])


def test_a_single_value_per_channel_keeps_the_statistics_finite():
    """The pooled branch of the semantic head sees one value per channel when there is one image."""
    for biased in (True, False):
        norm = BatchNorm(4, biased_moving_variance=biased)
        assert norm(torch.randn(1, 4, 1, 1)).isfinite().all()
        assert norm.running_var.isfinite().all()


def test_gradients_are_those_of_finite_differences():
    norm = BatchNorm(3).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


def test_a_gelu_after_the_norm_is_the_gelu_of_its_result():
    x, grad = (t.contiguous(memory_format=torch.channels_last) for t in inputs())
    fused, norm = step(False, x, grad, gelu=True), BatchNorm(5)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, 5))
    apart = x.clone().requires_grad_()
    out = torch.nn.functional.gelu(norm(apart))
    out.backward(grad)
    torch.testing.assert_close(fused["out"], out.detach())
    torch.testing.assert_close(fused["input gradient"], apart.grad)
    torch.testing.assert_close(fused["weight gradient"], norm.weight.grad)
    torch.testing.assert_close(fused["bias gradient"], norm.bias.grad)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("of_weights", [torch.float32, torch.bfloat16])
def test_gradients_of_bfloat16_are_near(of_weights, gelu):
    x, grad = (t.bfloat16().float().contiguous(memory_format=torch.channels_last) for t in inputs())
    expected = step(False, x, grad, gelu)
    norm, near = BatchNorm(5), x.bfloat16().requires_grad_()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, 5))
    norm.to(of_weights)(near, "gelu" if gelu else None).backward(grad.bfloat16())
    assert (near.grad.dtype, norm.weight.grad.dtype) == (torch.bfloat16, of_weights)
    torch.testing.assert_close(near.grad.float(), expected["input gradient"], rtol=0.05, atol=0.05)
    for name, found in (("weight gradient", norm.weight.grad), ("bias gradient", norm.bias.grad)):
        torch.testing.assert_close(found.float(), expected[name], rtol=0.05, atol=0.3)


def test_evaluation_uses_and_keeps_the_moving_statistics():
    norm = BatchNorm(5).eval()
    before = norm.running_mean.clone()
    x, _ = inputs()
    torch.testing.assert_close(norm(x), x / (1 + 1e-3) ** 0.5)
    assert torch.equal(norm.running_mean, before)


def test_channel_layer_norm_looks_at_one_pixel_at_a_time():
    out = ChannelLayerNorm(6)(torch.randn(2, 6, 3, 4) * 5 + 2)
    torch.testing.assert_close(out.mean(1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(1, correction=0), torch.ones(2, 3, 4), atol=1e-3, rtol=0)


def test_channels_last_values_far_from_zero_are_normalised_to_rounding():
    """Torch's own kernel, which adds up one after the other, is forty times less exact here."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 16, 193, 193, generator=generator) + 5 * torch.randn(1, 16, 1, 1, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(x.shape, generator=generator).contiguous(memory_format=torch.channels_last)
    exact = x.detach().double().requires_grad_()
    norm = BatchNorm(16)
    norm(x).backward(grad)
    expected = torch.nn.functional.batch_norm(exact, None, None, training=True, eps=norm.eps)
    expected.backward(grad.double())
    assert (norm(x) - expected).abs().max() < 2e-6
    assert (x.grad - exact.grad).abs().max() < 2e-6
