"""Load a trained model and use it from Python.

    m = seqjax.load("runs/demo")                          # or ("model.pt", data="data-bin")
    m.translate("Battery level", beam=5)                  # "Batteriestand"
    m.translate(["Battery level", "Living room"])         # a list for a list
    m.generate(["Battery level"], beam=5, nbest=5)        # lists of Hypothesis
    m.score(["Battery level"], ["Batteriestand"])         # one Hypothesis a pair
    m.log_probs([[8, 15, 2]], [[2, 31]])                  # [1, 2, V]
    m.generate(["Battery level"], constraints=[["Akku"]])  # outputs that contain phrases

Inputs of any number and length are sorted, batched and put back in order inside; results
do not depend on the batching.
"""

from seqjax.hub.encoder import Encoder
from seqjax.hub.generative import Hypothesis
from seqjax.hub.language_model import LanguageModel
from seqjax.hub.loaded import Loaded
from seqjax.hub.loading import load
from seqjax.hub.translator import Translator
from seqjax.settings import resolve

__all__ = ["Encoder", "Hypothesis", "LanguageModel", "Loaded", "Translator", "load", "resolve"]
