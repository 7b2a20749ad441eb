"""The networks that we can build, with what their publications say about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from accelsim.models import convolutional, transformers
from accelsim.models.sketch import Shape, Sketch

FLOAT_SUFFIX = "-float"


@dataclass(frozen=True)
class Entry:
    """One network."""

    name: str
    what: str
    """A line about it."""
    source: str
    """Who published it."""
    published: str
    """Parameters and MACs as stated there, for people."""
    draw: Callable[[], Sketch]
    """Returns its sketch."""
    batch: int = 1
    """Samples of the calibration."""
    calibration: Callable[[], Sketch] | None = None
    """The sketch whose ranges it takes, if not its own."""


@dataclass(frozen=True)
class Figures:
    """What a network takes and costs, known without building it."""

    macs: int
    """Of one pass with a batch of one."""
    parameters: int
    """In the file."""
    parameters_unfolded: int
    """With scale and shift of every batch normalisation, as publications count."""
    inputs: Mapping[str, Shape]
    """Shapes by name, 1 where the batch is free."""
    outputs: Mapping[str, Shape]

    @staticmethod
    def of(sketch: Sketch) -> Figures:
        """Count a sketch."""
        shapes = {step.output: step.shape for step in sketch.steps}
        return Figures(
            sketch.macs,
            sketch.parameters,
            sketch.parameters + sketch.folded_parameters,
            {step.output: step.shape for step in sketch.inputs},
            {name: shapes[name] for name in sketch.outputs},
        )


_PREFILL = partial(transformers.decoder, "decoder", transformers.DECODER, transformers.DECODER_TOKENS)
_DECODE = partial(transformers.decoder, "decoder", transformers.DECODER, 1, transformers.DECODER_TOKENS - 1)

ENTRIES = (
    Entry(
        "resnet18",
        "ResNet-18, 224x224 images",
        "He et al., Deep Residual Learning for Image Recognition, CVPR 2016; count of parameters: torchvision",
        "1.8 GMAC, 11,689,512 parameters",
        partial(convolutional.resnet, 18),
        batch=2,
    ),
    Entry(
        "resnet50",
        "ResNet-50 (v1.5), 224x224 images",
        "He et al., Deep Residual Learning for Image Recognition, CVPR 2016; stride and parameters: torchvision",
        "4.1 GMAC, 25,557,032 parameters",
        partial(convolutional.resnet, 50),
        batch=2,
    ),
    Entry(
        "mobilenetv1",
        "MobileNetV1 1.0, 224x224 images",
        "Howard et al., MobileNets, arXiv:1704.04861, table 8",
        "569 MMAC, 4.2 M parameters",
        convolutional.mobilenet_v1,
        batch=2,
    ),
    Entry(
        "mobilenetv2",
        "MobileNetV2 1.0, 224x224 images",
        "Sandler et al., MobileNetV2, CVPR 2018, table 4; count of parameters: torchvision",
        "300 MMAC, 3,504,872 parameters",
        convolutional.mobilenet_v2,
        batch=2,
    ),
    Entry(
        "ds-cnn",
        "keyword spotting of MLPerf Tiny (DS-CNN S), 49x10 features",
        "Zhang et al., Hello Edge, arXiv:1711.07128, table 6; Banbury et al., MLPerf Tiny, NeurIPS 2021",
        "2.7 MMAC (5.4 MOps)",
        convolutional.ds_cnn,
        batch=8,
    ),
    Entry(
        "autoencoder",
        "anomaly detection of MLPerf Tiny, 640-128-...-8-...-640",
        "Banbury et al., MLPerf Tiny, NeurIPS 2021",
        "0.26 MMAC, 0.27 M parameters",
        convolutional.autoencoder,
        batch=64,
    ),
    Entry(
        "bert-tiny",
        "BERT encoder, 2 layers of 128, 128 tokens",
        "Turc et al., Well-Read Students Learn Better, arXiv:1908.08962, table 1",
        "4.4 M parameters",
        partial(transformers.bert, "bert-tiny", transformers.BERT_TINY),
    ),
    Entry(
        "bert-base",
        "BERT encoder, 12 layers of 768, 128 tokens",
        "Devlin et al., BERT, NAACL 2019; operations: Sun et al., MobileBERT, ACL 2020, table 4",
        "11.2 GMAC (22.5 GFLOPs), 109 M parameters",
        partial(transformers.bert, "bert-base", transformers.BERT_BASE),
    ),
    Entry(
        "vit-tiny",
        "ViT-Ti/16 encoder, 12 layers of 192, 224x224 images",
        "Touvron et al., DeiT, ICML 2021, table 1",
        "1.3 GMAC, 5.7 M parameters",
        partial(transformers.vit, "vit-tiny", transformers.VIT_TINY),
    ),
    Entry(
        "vit-small",
        "ViT-S/16 encoder, 12 layers of 384, 224x224 images",
        "Touvron et al., DeiT, ICML 2021, table 1",
        "4.6 GMAC, 22 M parameters",
        partial(transformers.vit, "vit-small", transformers.VIT_SMALL),
    ),
    Entry(
        "decoder-prefill",
        "decoder block, 128 tokens at once, keys and values out",
        "Radford et al., Language Models are Unsupervised Multitask Learners, 2019: one block of GPT-2 small",
        "7.09 M parameters",
        _PREFILL,
    ),
    Entry(
        "decoder-decode",
        "decoder block, token 128 with the cache of 127, cache in and out",
        "Radford et al., Language Models are Unsupervised Multitask Learners, 2019: one block of GPT-2 small",
        "7.09 M parameters",
        _DECODE,
        calibration=_PREFILL,
    ),
)
