"""Schemes: names, spelled-out options, and everything that does not go together."""

from __future__ import annotations

import pytest

import accelsim
from accelsim.errors import UsageError
from accelsim.quantise.pipeline import quantize
from accelsim.quantise.scheme import NAMES, LayerBits, Scheme, named, parse_scheme
from tests.quantise.helpers import noise, two_convolutions
from tests.tiers import few


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_valid_scheme(name: str) -> None:
    """All named schemes can be built, and say their name."""
    assert named(name).name == name
    assert parse_scheme(name) == named(name)


def test_options_change_fields() -> None:
    """Options reach their fields with the right types; repeated ones add up."""
    scheme = parse_scheme(
        "w4a8+activation_range=percentile+percentile=99.5+bias_correction+block=16+layer_bits.stem=8+keep_float=Gemm"
        "+keep_float=last+layer_activation_bits.stem=16"
    )
    assert (scheme.activation_range, scheme.percentile, scheme.bias_correction) == ("percentile", 99.5, True)
    assert (scheme.granularity, scheme.block) == ("group", 16)
    assert scheme.layer_bits == (LayerBits("stem", 8),)
    assert scheme.layer_activation_bits == (LayerBits("stem", 16),)
    assert scheme.weight_bits_of("stem") == 8
    assert scheme.weight_bits_of("other") == 4
    assert scheme.keep_float == ("Gemm", "last")


def test_names_of_layers_may_hold_anything() -> None:
    """An equals sign in a name belongs to it; a plus sign does where options are apart."""
    scheme = parse_scheme(
        "int8-affine+layer_bits.a=b=4+layer_activation_bits.=c==16+keep_float=d=e", ["layer_bits.f+g=2"]
    )
    assert scheme.layer_bits == (LayerBits("a=b", 4), LayerBits("f+g", 2))
    assert scheme.layer_activation_bits == (LayerBits("=c=", 16),)
    assert scheme.keep_float == ("d=e",)


def test_the_name_says_what_was_changed() -> None:
    """Options extend it, each once, as it would be written."""
    scheme = parse_scheme("w4a8+bias_correction", ["activation_range=mse", "keep_float=dense", "activation_range=mse"])
    assert scheme.name == "w4a8+bias_correction+activation_range=mse+keep_float=dense"
    assert parse_scheme(scheme.name) == scheme
    assert scheme.activation_range == "mse"


def test_an_option_does_not_contradict_the_scheme_it_is_added_to() -> None:
    """The same key in the scheme's text and as an option counts as twice."""
    with pytest.raises(UsageError, match="weight_bits is given as 4 and as 8"):
        parse_scheme("int8-affine+weight_bits=4", ["weight_bits=8"])


def test_a_group_scheme_becomes_per_channel_again() -> None:
    """Another granularity takes the block with it."""
    assert parse_scheme("w4a8-g32+granularity=channel").block == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int8-symetric", "did you mean 'int8-symmetric'?"),
        ("int8-affine+weight_bits=1", "1-bit networks have to be trained as such"),
        ("int8-affine+weight_bits=5", "must be one of 2, 4, 8, 16"),
        ("int8-affine+activation_bits=4", "must be one of 8, 16"),
        ("int8-affine+weight_bits=two", "weight_bits is a whole number"),
        ("int8-affine+weight_bits=4.5", "weight_bits is a whole number"),
        ("int8-affine+weight_bits=inf", "weight_bits is a whole number"),
        ("int8-affine+activation_range=kl", "there is no activation_range 'kl'"),
        ("int8-affine+percentile=10", "the percentile must be above 50"),
        ("int8-affine+averaging=2", "between 0 and 1"),
        ("int8-affine+weightbits=4", "did you mean 'weight_bits'?"),
        ("int8-affine+granularity=group", "needs a block size"),
        ("int8-affine+block=1", "a block has 2 to"),
        ("int8-affine+bias_correction=maybe", "true or false"),
        ("int8-affine+activation_narrow=true", "cannot be narrow and affine"),
        ("int8-affine+percentile=nan", "percentile is a number, got 'nan'"),
        ("int8-affine+layer_bits.percentile=inf", "layer_bits.percentile is a whole number, got 'inf'"),
        ("int8-affine+layer_bits.averaging=nan", "layer_bits.averaging is a whole number, got 'nan'"),
        ("int8-affine+layer_bits.percentile=4.5", "layer_bits.percentile is a whole number, got '4.5'"),
        ("int8-affine+layer_activation_bits.a=", "layer_activation_bits.a is a whole number, got ''"),
        ("int8-affine+weight_bits=4+weight_bits=8", "weight_bits is given as 4 and as 8: give it once"),
        ("int8-affine+layer_bits.a=4+layer_bits.a=8", "layer_bits.a is given as 4 and as 8"),
        ("int8-affine+equalise+equalise=no", "equalise is given as True and as False"),
        ("int8-affine+layer_bits.stem=1", "stem must be one of"),
        ("int8-affine+layer_activation_bits.stem=4", "stem must be one of 8, 16"),
        ("int8-affine+layer_bits=4", "did you mean 'layer_bits.LAYER'?"),
        ("int8-affine+name=x", "a scheme has no option 'name'"),
        ("", "there is no scheme ''"),
    ],
)
def test_nonsense_is_refused(text: str, words: str) -> None:
    """Each mistake has its own sentence."""
    with pytest.raises(UsageError, match=r".+") as caught:
        parse_scheme(text)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_fields_are_checked_from_python_as_well() -> None:
    """A scheme built by hand passes the same checks."""
    with pytest.raises(UsageError, match="weight_bits of a scheme is int"):
        Scheme(weight_bits="8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bias_correction of a scheme is bool"):
        Scheme(bias_correction=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "opset"), [("int8-affine", 13), ("w4a8", 21), ("w8a16", 21), ("w2a8", 25)])
def test_the_operator_set_follows_the_widths(name: str, opset: int) -> None:
    """Types that ONNX had later need later operator sets."""
    assert named(name).opset == opset


@pytest.mark.parametrize("name", few(["int8-per-channel", "int8-symmetric", "uint8", "int8-affine-weights"], 1))
def test_wide_weights_with_narrow_activations_are_exact(name: str) -> None:
    """16-bit weights times 8-bit activations: the machine's sums are onnxruntime's."""
    x = noise()
    quantised = quantize(two_convolutions(), f"{name}+weight_bits=16", x)
    assert {weights.grid.spec.bits for weights in quantised.weights.values()} == {16}
    result = accelsim.run(accelsim.load(quantised.onnx), accelsim.Arch(acc_bits=40), {"x": x["x"][:4]})
    assert (result.check.verdict, result.check.mismatched_elements) == ("exact", 0)
