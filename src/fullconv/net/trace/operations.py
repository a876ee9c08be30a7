"""One name for each of torch's operations, whether function, method or module, and groups of them."""

from __future__ import annotations

from torch import fx, nn

__all__ = [
    "ALONG_ONE_DIMENSION",
    "ATTENTION",
    "CELLWISE",
    "CHANNELWISE",
    "LAYERS",
    "POOLS",
    "REDUCTIONS",
    "RESHAPES",
    "STATISTICS",
    "kind_of",
]

CELLWISE = frozenset((
    "abs", "add", "addcmul", "celu", "clamp", "clamp_max", "clamp_min", "clip", "clone", "contiguous", "cos",
    "detach", "div", "elu", "eq", "erf", "exp", "expand_as", "float", "ge", "gelu", "gt", "half", "hardsigmoid",
    "hardswish", "hardtanh", "identity", "le", "leaky_relu", "lerp", "log", "log1p", "logsigmoid", "lt", "maximum",
    "minimum", "mish", "mul", "neg", "pow", "reciprocal", "relu", "relu6", "rsqrt", "rsub", "selu", "sigmoid", "sign",
    "silu", "sin", "softplus", "softsign", "sqrt", "square", "stochastic_depth", "sub", "tanh", "threshold", "to",
    "truediv", "type", "type_as", "where",
))  # fmt: skip
"""Functions and methods that work on each cell separately, and combine maps cell by cell."""

CHANNELWISE = frozenset((
    "alpha_dropout", "batch_norm", "dropout", "dropout2d", "feature_dropout", "local_response_norm", "prelu",
))  # fmt: skip
POOLS = frozenset((
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "amax", "avg_pool2d", "max_pool2d", "mean", "sum",
))  # fmt: skip
REDUCTIONS = POOLS | frozenset((
    "amin", "logsumexp", "max", "min", "norm", "prod", "std", "var", "std_mean", "var_mean",
))  # fmt: skip
RESHAPES = frozenset(["flatten", "reshape", "reshape_as", "squeeze", "unflatten", "unsqueeze", "view", "view_as"])
LAYERS = frozenset(["avg_pool2d", "conv2d", "conv_transpose2d", "max_pool2d", "pixel_unshuffle"])
STATISTICS = frozenset(["group_norm", "instance_norm"])
ATTENTION = frozenset((
    "baddbmm", "bmm", "einsum", "matmul", "multi_head_attention_forward", "scaled_dot_product_attention",
))  # fmt: skip
ALONG_ONE_DIMENSION = frozenset((
    "chunk", "cumsum", "index_select", "log_softmax", "narrow", "normalize", "select", "softmax", "split",
    "split_with_sizes", "tensor_split",
))  # fmt: skip

_KINDS: dict[type[nn.Module], str] = {
    nn.modules.batchnorm._BatchNorm: "batch_norm", nn.modules.dropout._DropoutNd: "dropout", nn.Linear: "linear",
    nn.LayerNorm: "layer_norm", nn.GroupNorm: "group_norm", nn.modules.instancenorm._InstanceNorm: "instance_norm",
    nn.Flatten: "flatten", nn.Unflatten: "unflatten", nn.PReLU: "prelu", nn.LocalResponseNorm: "local_response_norm",
    nn.Conv2d: "conv2d", nn.ConvTranspose2d: "conv_transpose2d", nn.MaxPool2d: "max_pool2d", nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d", nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
    nn.PixelUnshuffle: "pixel_unshuffle", nn.Upsample: "interpolate", nn.Softmax: "softmax",
    nn.LogSoftmax: "log_softmax", nn.MultiheadAttention: "multi_head_attention_forward",
    nn.modules.padding._ConstantPadNd: "pad", nn.modules.padding._ReflectionPadNd: "pad",
    nn.modules.padding._ReplicationPadNd: "pad", nn.modules.padding._CircularPadNd: "pad",
}  # fmt: skip
if hasattr(nn, "RMSNorm"):
    _KINDS[nn.RMSNorm] = "rms_norm"
_CELLWISE_MODULES = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Threshold,
)  # fmt: skip
_NAMES = {"iadd": "add", "imul": "mul", "isub": "sub", "itruediv": "truediv", "divide": "div", "multiply": "mul"}
_NAMES |= {
    "subtract": "sub",
    "concat": "cat",
    "concatenate": "cat",
    "batch_norm2d": "batch_norm",
    "upsample": "interpolate",
}
_NAMES |= {"permute_dims": "permute", "swapaxes": "transpose", "silu_": "silu", "radd": "add", "rmul": "mul"}


def kind_of(node: fx.Node, module: nn.Module | None) -> str:
    """Return the name of a function, a method or a module of torch; an empty name for any other module."""
    if module is not None:
        if isinstance(module, _CELLWISE_MODULES):
            return "identity"
        return next((kind for cls, kind in _KINDS.items() if isinstance(module, cls)), "")
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    name = name if name.startswith("__") else name.strip("_")
    return _NAMES.get(name, name)
