"""How kernels lie in memory, on which the speed of training depends and no result does."""

from kmax.model.construction import shapes_only


def test_kernels_have_channels_last_also_where_they_are_1x1() -> None:
    """Torch calls a 1x1 kernel channels-last whatever its strides, but goes other ways by them."""
    model = shapes_only("kmax_tiny", num_classes=3, image_size=(65, 65))
    kernels = [parameter for parameter in model.parameters() if parameter.dim() == 4]
    assert any(kernel.shape[2:] == (1, 1) for kernel in kernels)
    for kernel in kernels:
        channels, height, width = kernel.shape[1:]
        assert kernel.stride() == (channels * height * width, 1, channels * width, channels)
