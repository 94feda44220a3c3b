"""Languages whose symbols stand behind the pieces of a published SentencePiece model, in the order
of their ids, where no file of the folder lists them: the class of its tokenizer in, symbols out.
"""

from __future__ import annotations

_CC25 = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT "
    "lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN").split()
_LATER = (
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF "
    "pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI").split()
_M2M = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu "
    "ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr "
    "ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk "
    "ur uz vi wo xh yi yo zh zu").split()
CODES: dict[str, tuple[str, ...]] = {
    "MBartTokenizer": tuple(_CC25),
    "MBart50Tokenizer": (*_CC25, *_LATER),
    "M2M100Tokenizer": tuple(f"__{code}__" for code in _M2M),
}
"""Class of a tokenizer -> its languages."""


def codes_of(tokenizer_class: str) -> list[str]:
    """The symbols of languages of a class (`MBartTokenizer`, `MBartTokenizerFast`); none of a
    class without or unknown."""
    return list(CODES.get(tokenizer_class.removesuffix("Fast"), ()))
