"""A paragraph on methods, ready for a paper, with what it must cite: this program, the network, the teacher, the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcseg import __version__

# As CITATION.cff says; a test compares them.
AUTHORS, TITLE = "The hpcseg authors", "hpcseg: maps from archives of large satellite scenes, on many GPUs"
CITED_COLUMNS = ("citation", "doi", "source", "license")

_U_NET = "Ronneberger, O., Fischer, P., Brox, T. (2015). U-Net: convolutional networks for biomedical image segmentation. MICCAI, 234-241."
_RESFLOW = ("Lunga, D., Gerrand, J., Yang, L., Layton, C., Stewart, R. (2020). Apache Spark accelerated deep learning inference for large "
            "scale satellite image analytics. IEEE JSTARS 13, 271-283.")  # fmt: skip
_RESNET = "He, K., Zhang, X., Ren, S., Sun, J. (2016). Deep residual learning for image recognition. CVPR, 770-778."
_ICE = ("Iqrah, J. M., Wang, W., Xie, H., Prasad, S. (2024). A parallel workflow for polar sea-ice classification using auto-labeling of "
        "Sentinel-2 imagery. IPDPS Workshops. arXiv:2403.13135.")  # fmt: skip
_OTSU = ("Otsu, N. (1979). A threshold selection method from gray-level histograms. IEEE Transactions on Systems, Man, and Cybernetics "
         "9(1), 62-66.")  # fmt: skip
_AREA = "Snyder, J. P. (1987). Map projections: a working manual. U.S. Geological Survey Professional Paper 1395."
_HOROVOD = "Sergeev, A., Del Balso, M. (2018). Horovod: fast and easy distributed deep learning in TensorFlow. arXiv:1802.05799."

NETWORKS = {
    "unet": (_U_NET,),
    "segnet": (
        "Badrinarayanan, V., Kendall, A., Cipolla, R. (2017). SegNet: a deep convolutional encoder-decoder architecture for image "
        "segmentation. IEEE TPAMI 39(12), 2481-2495.",
    ),
    "deeplab": (
        "Chen, L.-C., Papandreou, G., Kokkinos, I., Murphy, K., Yuille, A. L. (2018). DeepLab: semantic image segmentation with deep "
        "convolutional nets, atrous convolution, and fully connected CRFs. IEEE TPAMI 40(4), 834-848.",
        _RESNET,
    ),
    "resnet50-fcn": (
        "Long, J., Shelhamer, E., Darrell, T. (2015). Fully convolutional networks for semantic segmentation. CVPR, 3431-3440.",
        _RESNET,
    ),
    "vgg16": (
        "Simonyan, K., Zisserman, A. (2015). Very deep convolutional networks for large-scale image recognition. ICLR. arXiv:1409.1556.",
    ),
    "gallery": (_RESFLOW,),
}
TEACHERS = {
    "ice": ("by brightness", (_ICE,)),
    "filtered ice": ("by brightness, against thin cloud and shadow", (_ICE,)),
    "water": ("by a threshold that is each scene's own", (_OTSU,)),
    "sfs": ("by a threshold on structural texture that is each scene's own", (
        "Huang, X., Zhang, L., Li, P. (2007). Classification and extraction of spatial features in urban areas using high-resolution "
        "multispectral imagery. IEEE GRSL 4(2), 260-264.", _OTSU)),
    "index": ("by the normalised difference of two bands", ()),
}  # fmt: skip


@dataclass
class Methods:
    """Sentences, in which each claim names the numbers of its references."""

    sentences: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)

    def cite(self, references: Iterable[str]) -> str:
        """The numbers of references in brackets, " [1, 3]"; "" for none."""
        numbers = []
        for each in references:
            if each not in self.references:
                self.references.append(each)
            numbers.append(str(self.references.index(each) + 1))
        return f" [{', '.join(numbers)}]" if numbers else ""

    def say(self, sentence: str) -> None:
        """Add a sentence."""
        self.sentences.append(sentence)

    @property
    def text(self) -> str:
        """The paragraph."""
        return " ".join(self.sentences)


def own_citation(version: str = __version__) -> str:
    """How this program is cited."""
    return f"{AUTHORS}. {TITLE}. Version {version}."


def network_references(network: str) -> tuple[str, ...]:
    """The papers of a registered network, by how its name begins; none for a foreign one."""
    return next((papers for name, papers in NETWORKS.items() if network.startswith(name)), ())


def area_sentence(methods: Methods) -> None:
    """How areas of classes came about."""
    methods.say(
        "Areas were computed on the ellipsoid of each scene's reference system, from the outlines of fixed blocks of 256 x 256 pixels on "
        f"an equal-area plane{methods.cite([_AREA])}."
    )


def tiles_sentence(methods: Methods, core: int, halo: int) -> None:
    """How scenes were cut."""
    methods.say(f"Scenes were read in tiles of {core:,} x {core:,} pixels with {halo:,} more on each side; only the former were written.")


def averaging_sentence(methods: Methods, ranks: int, averaging: str) -> None:
    """How several ranks trained one network."""
    if ranks > 1:
        cited = methods.cite([_HOROVOD]) if "horovod" in averaging.lower() else ""
        methods.say(f"Gradients were averaged over {ranks:,} ranks{' by ' + averaging if averaging else ''}{cited}.")


def data_sentences(methods: Methods, manifest: Mapping[str, Mapping[str, str]]) -> str:
    """What the manifest says of the scenes: dates, regions, and how the data are cited. Returns what is still missing, "" if nothing."""
    dates, regions = _values(manifest, "date"), _values(manifest, "region")
    if dates:
        when = f"between {dates[0]} and {dates[-1]}" if len(dates) > 1 else f"on {dates[0]}"
        methods.say(f"The scenes were taken {when}.")
    if regions:
        methods.say(f"They show {_enumerate(regions)}.")
    cited = [value for column in CITED_COLUMNS for value in _values(manifest, column)]
    if cited:
        methods.say(f"The data are cited as their manifest says{methods.cite(cited)}.")
        return ""
    return f"The manifest names no source of the data: add a column such as {', '.join(CITED_COLUMNS[:3])}, or cite their provider by hand."


def _values(manifest: Mapping[str, Mapping[str, str]], column: str) -> list[str]:
    """The different values of a column, sorted."""
    return sorted({columns[column] for columns in manifest.values() if columns.get(column)})


def _enumerate(names: Sequence[str], most: int = 6) -> str:
    """a, b and c; where there are many, the first of them and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
