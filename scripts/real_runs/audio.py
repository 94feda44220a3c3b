"""Prepares the recordings of the small runs of speech: from Debian packages that `dpkg-deb -x`
unpacked to folders of recordings, one for each split, and their texts.

    python scripts/real_runs/audio.py festvox FOLDER UNPACKED     # festvox-ru
    python scripts/real_runs/audio.py asterisk FOLDER UNPACKED    # asterisk-core-sounds-*
    python scripts/real_runs/audio.py phrases FOLDER UNPACKED     # festvox-ru

`clips/train`, `clips/valid`, ... have the recordings (hard links, or copies), `texts` a line for
each: its name, a tab, its text.

`festvox`: 620 utterances of one speaker, from a novel. By the number of the utterance: 10, 20, ...
are for testing, 5, 15, ... for validation, the others for training. The marks of stress are left
out of the text.

`asterisk`: what a telephone exchange says, in Spanish, French, Italian and Russian, one speaker
each, and the English of it. English texts are numbered in the order of the alphabet. All recordings
of texts 0, 12, 24, ... are for testing, `new`: their English is never seen in training. Of the
others, text i is held out in one language, if there is another with it: for testing if i % 6 is 3,
`seen`, for validation if i % 6 is 5. Their English is seen in training, said in other languages.
Recordings of more than 15 seconds are left out.

`phrases`: festvox's utterances, with the same split, cut where the speaker pauses at a mark of
punctuation. Its labels have the phones and the pauses with their times. A mark and a pause belong
together where about the same share of the letters and of the phones lies before both.
"""

from __future__ import annotations

import gzip
import itertools
import os
import pathlib
import re
import shutil
import sys
import wave
from collections import Counter

FESTVOX = "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
VOICES = {"es": "es_MX_f_Allison", "fr": "fr_CA_f_June", "it": "it_IT_m_Carlo",
          "ru": "ru_RU_f_IvrvoiceRU"}
LONGEST = 15
"""Seconds."""


def write(folder: pathlib.Path, rows: list[tuple[str, str, pathlib.Path, str]]) -> None:
    """Recordings and texts: (split, name, recording, text) of each."""
    for split, name, recording, _ in rows:
        path = folder / "clips" / split / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            try:
                os.link(recording, path)
            except OSError:
                shutil.copyfile(recording, path)
    lines = sorted({f"{name}\t{text}\n" for _, name, _, text in rows})
    (folder / "texts").write_text("".join(lines), encoding="utf-8")
    print(f"{folder}: {dict(Counter(split for split, *_ in rows))}")


def utterances(unpacked: pathlib.Path) -> list[tuple[str, str, pathlib.Path, str]]:
    """Those of festvox-ru: (split, name, recording, text) of each."""
    rows = []
    voice = unpacked / FESTVOX
    for row in (voice / "etc/txt.done.data").read_text(encoding="utf-8").splitlines():
        found = re.match(r'\( (ru_(\d+)) "(.*)" \)', row)
        if found is None:
            raise SystemExit(f"{voice / 'etc/txt.done.data'}: not understood: {row}")
        name, text = found.group(1), found.group(3).replace("+", "")
        split = {0: "test", 5: "valid"}.get(int(found.group(2)) % 10, "train")
        rows.append((split, name, voice / "wav" / f"{name}.wav", text))
    return rows


def festvox(folder: pathlib.Path, unpacked: pathlib.Path) -> None:
    """Utterances of festvox-ru."""
    write(folder, utterances(unpacked))


def seconds(recording: pathlib.Path) -> float:
    """How long it is."""
    with wave.open(str(recording)) as file:
        return file.getnframes() / file.getframerate()


def texts_of(unpacked: pathlib.Path, language: str) -> dict[str, str]:
    """Text by key of one language; what are tones has none."""
    package = f"asterisk-core-sounds-{language}"
    path = unpacked / "usr/share/doc" / package / f"core-sounds-{language}.txt.gz"
    found = {}
    for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines():
        key, _, text = line.partition(": ")
        text = " ".join(text.split())
        if text and not line.startswith(";") and not text.startswith(("[", "(", "<")):
            found[key.strip()] = text
    return found


def normal(text: str) -> str:
    """In lower case, letters and digits only: texts that are the same so are one text."""
    return " ".join(re.sub(r"[^\w']|_", " ", text.lower()).split())


def asterisk(folder: pathlib.Path, unpacked: pathlib.Path) -> None:
    """Recordings of four languages and their English."""
    english = texts_of(unpacked, "en")
    numbers = {text: i for i, text in enumerate(sorted({normal(t) for t in english.values()}))}
    rows = []
    for order, (language, voice) in enumerate(VOICES.items()):
        for key in sorted(english.keys() & texts_of(unpacked, language).keys()):
            recording = unpacked / "usr/share/asterisk/sounds" / voice / f"{key}.wav"
            if not recording.exists() or seconds(recording) > LONGEST:
                continue
            i = numbers[normal(english[key])]
            held = {3: "seen", 9: "seen", 5: "valid", 11: "valid"}.get(i % 12, "train")
            split = "new" if i % 12 == 0 else held if i // 12 % len(VOICES) == order else "train"
            rows.append((split, f"{language}-{key.replace('/', '-')}", recording, english[key]))
    taught = {normal(text) for split, *_, text in rows if split == "train"}
    write(folder, [(split if split == "new" or normal(text) in taught else "train", *rest, text)
                   for split, *rest, text in rows])


def cuts_of(text: str, labels: pathlib.Path) -> list[tuple[int, float]]:
    """Where an utterance can be cut: (place in the text, seconds) of marks that are pauses."""
    phones, pauses, before = 0, [], 0.0
    for line in labels.read_text(encoding="latin-1").splitlines()[1:]:
        end, _, phone = line.split()
        if phone == "pau":
            pauses.append((phones, (before + float(end)) / 2))
        phones, before = phones + (phone != "pau"), float(end)
    letters = [m.start() for m in re.finditer(r"[^\W\d_]", text) if m.group() not in "ьъ"]
    found = []
    for mark in re.finditer(r"[,.:;!?]|\s-\s", text):
        share = sum(place < mark.start() for place in letters) / len(letters) * phones
        near = [pause for pause in pauses if abs(pause[0] - share) <= 2]
        if len(near) == 1 and 0 < near[0][0] < phones:
            found.append((mark.end(), near[0][1]))
    return found


def phrases(folder: pathlib.Path, unpacked: pathlib.Path) -> None:
    """What lies between pauses of festvox-ru."""
    rows, parts = [], folder / "parts"
    parts.mkdir(exist_ok=True)
    for split, name, recording, text in utterances(unpacked):
        cuts = cuts_of(text, unpacked / FESTVOX / "lab" / f"{name}.lab")
        with wave.open(str(recording)) as file:
            rate, count = file.getframerate(), file.getnframes()
            places = [(0, 0), *((t, round(s * rate)) for t, s in cuts), (len(text), count)]
            for i, ((first, start), (last, end)) in enumerate(itertools.pairwise(places)):
                part = text[first:last]
                if not normal(part) or end <= start:
                    continue
                path = parts / f"{name}-{i}.wav"
                file.setpos(start)
                with wave.open(str(path), "wb") as out:
                    out.setparams(file.getparams())
                    out.writeframes(file.readframes(end - start))
                rows.append((split, path.stem, path, part))
    write(folder, rows)


def main() -> None:
    kind, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    made = {"festvox": festvox, "asterisk": asterisk, "phrases": phrases}
    made[kind](folder, *map(pathlib.Path, sys.argv[3:]))


if __name__ == "__main__":
    main()
