"""Methods that explain what an audited network hears, behind one verb: ``explainer.explain(recordings, targets)``."""

from l2i_fast.explainers.controls import Constant, Loudest, RandomBands, RandomFrames
from l2i_fast.explainers.explainer import Evidence, Explainer, FittedExplainer, Heard, MaskExplainer
from l2i_fast.explainers.flint import Flint
from l2i_fast.explainers.gradients import GradCam, GuidedBackprop, IntegratedGradients, Saliency, SmoothGrad
from l2i_fast.explainers.iba import IBA
from l2i_fast.explainers.l2i import EqualEnergy, EveryRelevant, ListenToInterpret, RandomComponents
from l2i_fast.explainers.lmac import LMAC
from l2i_fast.explainers.slime import SLIME

#: The methods by their names on the command line.
EXPLAINERS: dict[str, type[Explainer]] = {
    method.name: method
    for method in (
        ListenToInterpret,
        EveryRelevant,
        EqualEnergy,
        RandomComponents,
        Constant,
        Loudest,
        RandomBands,
        RandomFrames,
        IBA,
        Flint,
        LMAC,
        SLIME,
        Saliency,
        IntegratedGradients,
        SmoothGrad,
        GradCam,
        GuidedBackprop,
    )
}

__all__ = [
    "EXPLAINERS",
    "IBA",
    "LMAC",
    "SLIME",
    "Constant",
    "EqualEnergy",
    "EveryRelevant",
    "Evidence",
    "Explainer",
    "FittedExplainer",
    "Flint",
    "GradCam",
    "GuidedBackprop",
    "Heard",
    "IntegratedGradients",
    "ListenToInterpret",
    "Loudest",
    "MaskExplainer",
    "RandomBands",
    "RandomComponents",
    "RandomFrames",
    "Saliency",
    "SmoothGrad",
]
