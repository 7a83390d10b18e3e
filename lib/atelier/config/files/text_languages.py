"""How probable a text is in some languages, by its single characters: what a guess of an encoding needs to know.

A character costs bits: 4 for a letter that makes up a sixteenth of a text. The lists of frequent characters were
written for captions: colours, shapes, people, clothes, animals and places, beside the most frequent characters of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

STRANGE = 24.0
"""Bits of a character that the language has no use for."""


@dataclass(frozen=True)
class Language:
    """One language, or several with the same letters. `bits`: of its frequent characters.

    `ranges`: (first, last, bits) for its other characters. `prior`: bits for the language itself. `beside_latin`: bits
    for one of its letters beside an ASCII letter, `doubled` for two of its own side by side.
    """

    codecs: tuple[str, ...]
    bits: Mapping[str, float]
    ranges: tuple[tuple[str, str, float], ...] = ()
    prior: float = 12.0
    beside_latin: float = 8.0
    doubled: float = 0.0
    alphabet: bool = True
    pairs: frozenset[str] = frozenset()
    """Two of its own letters that are usual side by side."""
    rare: tuple[str, int] | None = None
    """(codec, lead byte) of the national standard: from that byte on, and outside of it, characters are rare."""

    def bits_of(self, text: str) -> float:
        """The bits of a whole text."""
        total, before = self.prior, " "
        for letter in text:
            total += self._of(letter, before)
            if letter.isalpha() or before.isalpha():
                total += self._together(before, letter)
            before = letter
        return total

    def _of(self, letter: str, before: str) -> float:
        if letter < "\x80":
            return ascii_bits(letter)
        found = self.bits.get(letter)
        if found is not None:
            return found
        lower = letter.lower()
        if lower != letter and lower in self.bits:
            return self.bits[lower] + (1.0 if before.isupper() else 3.0)
        if letter in _SIGNS:
            return _SIGNS[letter]
        for first, last, bits in self.ranges:
            if first <= letter <= last:
                return bits + self._rarity(letter)
        return STRANGE

    def _rarity(self, letter: str) -> float:
        if self.rare is None:
            return 0.0
        codec, lead = self.rare
        try:
            return 4.0 if letter.encode(codec)[0] >= lead else 0.0
        except UnicodeEncodeError:
            return 8.0

    def _together(self, before: str, letter: str) -> float:
        """Bits for two characters side by side of which at least one is a letter."""
        if before < "\x80" and letter < "\x80":
            return 0.0
        bits = 0.0
        if before.isalpha() and letter.isalpha():
            if before < "\x80" or letter < "\x80":
                bits += self.beside_latin
            else:
                bits += 0.0 if before + letter in self.pairs else self.doubled
            if self.alphabet and before.islower() and letter.isupper():
                bits += 6.0
        elif self.alphabet and (letter in _SYMBOLS or before in _SYMBOLS):
            bits += 6.0  # a sign that touches a letter, as in "ma³y"
        return bits


def ascii_bits(letter: str) -> float:
    """The bits of an ASCII character, the same in all languages."""
    if letter.isalpha():
        return 4.5
    if letter in " \n\r\t":
        return 2.5
    if letter.isdigit() or letter in ",.-_()'\":":
        return 5.5
    return 9.0 if letter >= " " else 20.0


_SIGNS = {
    **dict.fromkeys("’“”–—…", 9.0),
    **dict.fromkeys("‘„«»°·×№€´", 10.0),
    **dict.fromkeys("¿¡", 7.0),
    **dict.fromkeys("©®½¼²³±§£\xa0™•", 13.0),
    **dict.fromkeys("、。，！？：；（）「」『』《》【】・ー〜～\u3000", 8.5),
}
_SYMBOLS = frozenset("«»·×№©®½¼²³±§£™•¹¸ªº¬¦¨¯µ¶¤¥¢")


def _frequent(letters: str, share: float) -> dict[str, float]:
    """The characters that together make up `share` of a text, each as frequent as the others."""
    kept = dict.fromkeys(letter for letter in letters if not letter.isspace())
    return dict.fromkeys(kept, math.log2(len(kept) / share))


def _by_share(shares: Mapping[str, float]) -> dict[str, float]:
    """The letters of an alphabet by their share of a text, in percent."""
    return {letter: math.log2(100.0 / share) for letters, share in shares.items() for letter in letters}


_SIMPLIFIED = """
的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经
么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全
三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任
常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必
场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告
类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运红蓝绿黄黑紫粉橙灰棕圆方角背景睛发短裙衣服帽站坐躺微笑
脸脚腿云树花草城街房屋室夜晚阳照片图画插风动漫卡通猫狗鸟鱼车杯桌椅窗墙板质细节单双孩男少年穿戴裤鞋袜校泳装身上半特写柔温暖冷
亮暗森林湖河雨雪古典现代写实油彩水墨素描近远景正侧俯仰视细腻精致杰作最佳超级清晰皮肤胸腰肩耳朵尾巴翅膀剑枪刀书包花瓶苹果木石
"""
_TRADITIONAL = """
的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經
麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全
三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任
常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必
場件計管期市直德資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告
類求據程北邊死張該交規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運紅藍綠黃黑紫粉橙灰棕圓方角背景睛髮短裙衣服帽站坐躺微笑
臉腳腿雲樹花草城街房屋室夜晚陽照片圖畫插風動漫卡通貓狗鳥魚車杯桌椅窗牆板質細節單雙孩男少年穿戴褲鞋襪校泳裝身上半特寫柔溫暖冷
亮暗森林湖河雨雪古典現代寫實油彩水墨素描近遠景正側俯仰視細膩精緻傑作最佳超級清晰皮膚胸腰肩耳朵尾巴翅膀劍槍刀書包花瓶蘋果木石
"""
_KANJI = """
日一人大年会国本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食
車何南万毎白天母火右読友左休父雨赤青黄緑黒紫色丸形四角背景髪目顔手足服着物帽立座笑空雲花草海街部屋夜昼光写真絵画風猫犬鳥魚椅
机窓壁地面少美作品質体家道通店新度私的場明動口耳頭首肩胸腰脚指爪牙尾羽翼剣刀銃本棚箱瓶杯皿石岩森林湖河池雪氷星太陽朝夕暗明影
銀灰茶桃橙濃淡細太短古若老々全身上半横正後方向近遠景室内外正面側顔持開閉走歩飛泳寝起乗描線影彩油水墨傑最高級詳細精緻制服和洋
"""
_HIRAGANA = "のはにをたがでてとしれさいるなっうらりあおかきくけこ"
_HANGUL = """
이다의는에을가한고를은하도로지사서어기나자리그있들아시대인라해일것정수과여장스제구부전으보게상주세니면었적원만조안마오중화였회국선
모성비우소생동유신문할공관내미분방경실용계거간무되위치될남람연년바저차음말당금건통물터트교양발외식야러려호달단등알요반산진재입운번
학개드머와매행네작때까살불했히앞영손길르민본집타파키카포티디데레루크프토테베배페후노녀눈얼굴빨초검흰색형강양긴짧란간록노랗붉푸른
분홍랑얀옷치모앉웃햇빛늘나무꽃바다시낮밤풍경만카메라사진그림스타일귀엽예쁜화려책상의컵새고기말차둥근네모세뒤옆위아래실내실외에서
없않같좋많큰작은귀입코팔다리몸발머릿결
"""

LANGUAGES = (
    Language(
        ("cp1252",),
        {**dict.fromkeys("éèàçüöäßñáíóúêâîôûãå", 7.0), **dict.fromkeys("øæ", 7.5),
         **dict.fromkeys("ëïõœùò", 9.5), **dict.fromkeys("ìÿšžŠŽŒ", 10.5), **dict.fromkeys("ýðþ", 13.0)},
        (("\x80", "ÿ", 15.0), ("ƒ", "™", 15.0)), prior=0.0, beside_latin=0.0, doubled=6.0,
        pairs=frozenset(("éé", "çã", "çõ", "ëï")),
    ),
    Language(
        ("cp1250",),
        {**dict.fromkeys("ąęłśżćńóźčěřšůžýáíéúďťňőűöüôăâîşţä", 7.0), **dict.fromkeys("đëçĺľŕßĂŢ", 10.0)},
        prior=6.0, beside_latin=0.0, doubled=1.0,
    ),
    Language(
        ("cp1254",),
        {**dict.fromkeys("ışğ", 6.0), "İ": 8.0, **dict.fromkeys("çüö", 6.5), **dict.fromkeys("âî", 10.0)},
        prior=6.0, beside_latin=0.0, doubled=1.0,
    ),
    Language(
        ("cp1251", "koi8_u", "cp866", "utf_16_le", "utf_16_be"),
        _by_share({
            "о": 10.9, "е": 8.5, "а": 8.0, "и": 7.4, "н": 6.7, "т": 6.3, "с": 5.5, "р": 4.7, "в": 4.5, "л": 4.4,
            "к": 3.5, "м": 3.2, "д": 3.0, "п": 2.8, "у": 2.6, "я": 2.0, "ы": 1.9, "ьгзб": 1.6, "ч": 1.4, "й": 1.2,
            "хж": 0.95, "ш": 0.7, "ю": 0.6, "ц": 0.5, "щэ": 0.35, "фіїє": 0.27, "ъёґў": 0.05,
        }),
    ),  # fmt: skip
    Language(
        ("cp1253",),
        _by_share({
            "α": 10.0, "ο": 8.5, "ι": 7.5, "ε": 7.5, "τ": 7.5, "ν": 6.0, "σ": 5.0, "η": 4.5, "υ": 4.0, "ρκπς": 4.0,
            "μ": 3.3, "λ": 2.6, "ωγδ": 1.7, "άόίέή": 1.6, "χθύώ": 1.0, "φβξζψ": 0.5, "ϊΐϋΰ": 0.05,
        }),
    ),  # fmt: skip
    Language(("cp1255",), {}, (("א", "ת", 5.0),), prior=24.0),
    Language(("cp1256",), {}, (("ء", "ي", 5.2), ("پ", "ے", 8.0)), prior=24.0),
    Language(("cp874",), {}, (("ก", "๛", 5.6),), prior=24.0),
    Language(
        ("gb18030",), _frequent(_SIMPLIFIED, 0.75), (("一", "鿿", 14.0), ("！", "～", 11.0)),
        beside_latin=4.0, alphabet=False, rare=("gb2312", 0xD8),
    ),
    Language(
        ("big5hkscs",), _frequent(_TRADITIONAL, 0.75), (("一", "鿿", 14.0), ("！", "～", 11.0)),
        beside_latin=4.0, alphabet=False, rare=("big5", 0xC9),
    ),
    Language(
        ("cp932", "euc_jp"), {**_frequent(_KANJI, 0.25), **_frequent(_HIRAGANA, 0.4)},
        (("ぁ", "ん", 9.5), ("ァ", "ヶ", 9.0), ("一", "鿿", 14.5), ("！", "～", 11.0), ("｡", "ﾟ", 16.0)),
        beside_latin=4.0, alphabet=False, rare=("shift_jis", 0x99),
    ),
    Language(
        ("cp949",), _frequent(_HANGUL, 0.85), (("가", "힣", 13.0), ("一", "鿿", 18.0), ("！", "～", 12.0)),
        beside_latin=4.0, alphabet=False, rare=("euc_kr", 0xC9),
    ),
    *(
        Language(
            ("utf_16_le", "utf_16_be"), _frequent(letters, share),
            (("一", "鿿", 15.0), ("ぁ", "ヶ", 9.5), ("가", "힣", 13.0)),
            prior=30.0, beside_latin=4.0, alphabet=False,
        )
        for letters, share in ((_SIMPLIFIED, 0.75), (_TRADITIONAL, 0.75), (_KANJI, 0.25), (_HANGUL, 0.85))
    ),
)  # fmt: skip
"""The languages that a guess knows, in the encodings in which they are usual."""
