"""Captions in the encodings of the world: read right, or told with a warning, and never wrong in silence."""

from __future__ import annotations

import time

import pytest

from atelier.config.files.legacy_text import Guess, agreed, read_unknown_text

CAPTIONS = {
    "gbk": (
        "红色圆形", "一个女孩", "白色背景上的红色圆形", "1girl, 长发, 微笑, 校服", "一只橘猫坐在窗台上，阳光照进来",
        "水墨画风格，山水，远景", "狗", "红狐狸", "皮卡丘", "我的妻子", "张伟", "masterpiece, 最佳质量, 单人",
        "陶瓷茶壶", "黑白照片，老人肖像", "哈士奇", "zwx 的照片",
    ),
    "big5": (
        "紅色圓形", "一個女孩", "白色背景上的紅色圓形", "1girl, 長髮, 微笑, 制服", "一隻橘貓坐在窗台上，陽光照進來",
        "水墨畫風格，山水，遠景", "狗", "紅狐狸", "皮卡丘", "我的妻子", "陶瓷茶壺", "一輛腳踏車", "玻璃瓶",
    ),
    "shift_jis": (
        "赤い丸", "白い背景の赤い丸", "女の子", "1girl, 長い髪, 笑顔, 制服", "窓辺に座っている猫、日差し", "水墨画",
        "犬", "アニメ", "ピカチュウ", "青いスポーツカー", "私の妻", "白黒写真",
    ),
    "euc_jp": (
        "赤い丸", "白い背景の赤い丸", "窓辺に座っている猫、日差し", "アニメ調の女の子",
    ),
    "euc_kr": (
        "빨간 원", "여자아이", "하얀 배경 위의 빨간 원", "1girl, 긴 머리, 미소, 교복", "창가에 앉아 있는 고양이",
        "수묵화", "피카츄", "파란 스포츠카", "나의 아내", "도자기 찻주전자", "유리병", "김철수",
    ),
    "cp1251": (
        "красный круг на белом фоне", "красный круг", "девушка", "кот", "рыжий кот сидит на окне",
        "1girl, длинные волосы, улыбка", "Фотография синей машины", "АКВАРЕЛЬ", "дом", "zwx человек в шляпе",
        "жёлтый цветок", "жінка в червоній сукні",
    ),
    "koi8_r": (
        "красный круг на белом фоне", "рыжий кот сидит на окне",
    ),
    "cp1250": (
        "mały kot", "żółty kwiat", "czerwone koło na białym tle",
    ),
    "cp1254": (
        "kırmızı daire", "beyaz arka plan üzerinde kırmızı daire", "genç kız", "şapka",
    ),
    "cp1253": (
        "κόκκινος κύκλος", "γυναίκα με καπέλο",
    ),
}  # fmt: skip
SHORT = {("gbk", "陶瓷茶壶")}
"""Captions that are too short to tell when nothing is beside them."""

WESTERN = (
    "a circle ’ red, café", "café", "crème brûlée", "un garçon près de la fenêtre", "ein Mädchen mit grünem Kleid",
    "Straße bei Nacht", "niño pequeño", "rød bil", "brød på rødt bord", "São Paulo", "coração, não, irmã",
    "it’s a cat", "a “red” circle – on white", "20° angle", "naïve", "à la carte", "Pokémon, 1girl", "Öl auf Leinwand",
    "perché è così", "les élèves créés", "l’été à la plage", "Zoë", "fiancée", "¿qué es?", "el Niño, ¡hola!",
    "½ cup", "© 2020", "5 × 4 grid", "Noël", "cœur", "Müller’s",
)  # fmt: skip


@pytest.mark.parametrize("encoding", CAPTIONS)
def test_a_short_caption_is_read_right_or_named_as_doubtful(encoding: str) -> None:
    for text in CAPTIONS[encoding]:
        guess = read_unknown_text(text.encode(encoding))
        assert not guess.silent, f"{text}: the person must be told that it was guessed"
        assert guess.text == text or ((encoding, text) in SHORT and not guess.sure), (text, guess.text, guess.codec)


@pytest.mark.parametrize("encoding", CAPTIONS)
def test_the_captions_of_a_folder_are_read_together(encoding: str) -> None:
    guesses = agreed([read_unknown_text(text.encode(encoding)) for text in CAPTIONS[encoding]])
    assert tuple(guess.text for guess in guesses) == CAPTIONS[encoding]
    assert not any(guess.silent for guess in guesses)
    assert sum(guess.sure for guess in guesses) >= len(guesses) / 2


@pytest.mark.parametrize("text", WESTERN)
def test_western_accents_and_quotes_stay_as_they_are_without_a_word(text: str) -> None:
    guess = read_unknown_text(text.encode("cp1252"))
    assert guess.text == text and guess.silent


def test_a_folder_of_western_captions_stays_silent() -> None:
    guesses = agreed([read_unknown_text(text.encode("cp1252")) for text in WESTERN])
    assert [guess.text for guess in guesses] == list(WESTERN) and all(guess.silent for guess in guesses)


def test_files_of_two_encodings_in_one_folder_keep_theirs() -> None:
    texts = {"gbk": "一只橘猫坐在窗台上，阳光照进来", "cp1251": "рыжий кот сидит на окне", "utf-8": "水墨画"}
    guesses = agreed([read_unknown_text(text.encode(encoding)) for encoding, text in texts.items()])
    assert [guess.text for guess in guesses] == list(texts.values())
    assert [guess.encoding for guess in guesses] == ["GBK", "Windows-1251", "UTF-8"]


@pytest.mark.parametrize("text", ["a red circle", "red café", "красный круг на белом фоне", "红色圆形", "少女, 1girl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8", "utf-8-sig", "utf-32"])
def test_unicode_with_and_without_a_mark(text: str, encoding: str) -> None:
    guess = read_unknown_text(text.encode(encoding))
    assert guess.text.lstrip("\ufeff") == text
    certain = encoding not in ("utf-16-le", "utf-16-be") or text.startswith(("a", "red", "少女"))
    assert guess.silent is certain


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_kr"])
def test_escape_sequences(encoding: str) -> None:
    text = "赤い丸" if encoding == "iso2022_jp" else "빨간 원"
    guess = read_unknown_text(text.encode(encoding))
    assert guess.text == text and not guess.silent


def test_lost_letters_are_told() -> None:
    cut = read_unknown_text("白色背景上的红色圆形".encode()[:-1])
    assert cut.text == "白色背景上的红色圆" and cut.damaged and not cut.silent
    lost = read_unknown_text("a \ufffd\ufffd circle".encode())
    assert lost.damaged and not lost.silent
    none = read_unknown_text(b"\x81\x8d\xff\xfe\x98\x81")
    assert not none.silent


def test_reading_that_stopped_within_a_letter() -> None:
    for encoding in ("utf-8", "gbk"):
        data = ("红色圆形，" * 2000).encode(encoding)
        guess = read_unknown_text(data[:9999], cut=True)
        assert set(guess.text) == set("红色圆形，") and not guess.damaged


def test_a_long_text_takes_no_time() -> None:
    started = time.monotonic()
    read_unknown_text(("рыжий кот сидит на окне, " * 200_000).encode("cp1251"))
    assert time.monotonic() - started < 5, "only the beginning is looked at"


def test_names_are_those_that_people_know() -> None:
    assert [Guess("", codec).encoding for codec in ("gb18030", "cp1251", "cp932", "cp949", "utf_8")] == [
        "GBK", "Windows-1251", "Shift-JIS", "EUC-KR", "UTF-8",
    ]  # fmt: skip
