"""Captions in other languages: the facts of a rendered picture, in sentences that need no inflection.

Counts stand in brackets and colours in a fixed phrase ("in Rot", "de couleur rouge"), so that every sentence is
correct whatever the facts are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_COLORS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
_SHAPES: Final = ("circle", "square", "triangle", "star", "diamond", "cross")
_PLACES: Final = ("left", "right", "top", "bottom", "center")


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """What is needed to describe a picture in one language."""

    colors: tuple[str, ...]
    """Those of `_COLORS`, in its order, ready for `group`."""
    shapes: tuple[str, ...]
    """Those of `_SHAPES`, in the plural."""
    places: tuple[str, ...]
    """Those of `_PLACES`."""
    group: str
    """`{count} {color} {shape} {place}` as a phrase."""
    scene: str
    """A sentence around `{groups}`."""
    joint: str
    """Between groups."""
    clock: str
    """A sentence with `{time}`."""
    chart: str
    """A sentence on a chart of `{count}` values."""
    table: str
    """A sentence on a table of `{count}` rows."""


LANGUAGES: Final[dict[str, Language]] = {
    "de": Language(
        colors=("Rot", "Orange", "Gelb", "Grün", "Blau", "Violett", "Rosa", "Schwarz"),
        shapes=("Kreise", "Quadrate", "Dreiecke", "Sterne", "Rauten", "Kreuze"),
        places=("auf der linken Seite", "auf der rechten Seite", "am oberen Rand", "am unteren Rand", "in der Mitte"),
        group="{shape} in {color} ({count}) {place}",
        scene="Auf diesem Bild sieht man {groups}.",
        joint=" und ",
        clock="Die Zeiger der Uhr auf diesem Bild zeigen genau {time} Uhr an.",
        chart="Dieses Diagramm vergleicht die Werte von {count} verschiedenen Kategorien miteinander.",
        table="Diese Tabelle hat unter der Kopfzeile {count} Zeilen mit Zahlen und Namen.",
    ),
    "fr": Language(
        colors=("rouge", "orange", "jaune", "verte", "bleue", "violette", "rose", "noire"),
        shapes=("cercles", "carrés", "triangles", "étoiles", "losanges", "croix"),
        places=("à gauche", "à droite", "en haut", "en bas", "au milieu"),
        group="des {shape} de couleur {color} ({count}) {place}",
        scene="Sur cette image, on voit {groups}.",
        joint=" et ",
        clock="Les aiguilles de l'horloge sur cette image indiquent {time}.",
        chart="Ce graphique compare les valeurs de {count} catégories différentes entre elles.",
        table="Ce tableau contient {count} lignes de chiffres et de noms sous son en-tête.",
    ),
    "es": Language(
        colors=("rojo", "naranja", "amarillo", "verde", "azul", "morado", "rosa", "negro"),
        shapes=("círculos", "cuadrados", "triángulos", "estrellas", "rombos", "cruces"),
        places=("a la izquierda", "a la derecha", "en la parte de arriba", "en la parte de abajo", "en el centro"),
        group="{shape} de color {color} ({count}) {place}",
        scene="En esta imagen se ven {groups}.",
        joint=" y también ",
        clock="Las agujas del reloj de esta imagen marcan exactamente las {time}.",
        chart="Este gráfico compara los valores de {count} categorías diferentes entre sí.",
        table="Esta tabla tiene {count} filas con números y nombres debajo del encabezado.",
    ),
    "it": Language(
        colors=("rosso", "arancione", "giallo", "verde", "blu", "viola", "rosa", "nero"),
        shapes=("cerchi", "quadrati", "triangoli", "stelle", "rombi", "croci"),
        places=("a sinistra", "a destra", "in alto", "in basso", "al centro"),
        group="{shape} di colore {color} ({count}) {place}",
        scene="In questa immagine si vedono {groups}.",
        joint=" e anche ",
        clock="Le lancette dell'orologio in questa immagine segnano esattamente le {time}.",
        chart="Questo grafico mette a confronto i valori di {count} categorie diverse.",
        table="Questa tabella contiene {count} righe di numeri e nomi sotto l'intestazione.",
    ),
    "ru": Language(
        colors=("красного", "оранжевого", "жёлтого", "зелёного", "синего", "фиолетового", "розового", "чёрного"),
        shapes=("круги", "квадраты", "треугольники", "звёзды", "ромбы", "кресты"),
        places=("слева", "справа", "вверху", "внизу", "в центре"),
        group="{shape} {color} цвета ({count}) {place}",
        scene="На этой картинке видны {groups}.",
        joint=" и ",
        clock="Стрелки часов на этой картинке показывают время {time}.",
        chart="Эта диаграмма сравнивает между собой значения разных категорий (всего {count}).",
        table="В этой таблице под заголовком стоят строки с числами и названиями (всего {count}).",
    ),
    "zh": Language(
        colors=("红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "黑色"),
        shapes=("圆形", "正方形", "三角形", "星形", "菱形", "十字形"),
        places=("左边", "右边", "上方", "下方", "中间"),
        group="{place}有{count}个{color}的{shape}",
        scene="在这张图片上，{groups}。",
        joint="，",
        clock="这张图片上的时钟指针显示的时间是{time}。",
        chart="这张图表比较了{count}个不同类别的数值。",
        table="这张表格在标题行下面有{count}行数字和名称。",
    ),
    "ja": Language(
        colors=("赤い", "オレンジ色の", "黄色い", "緑色の", "青い", "紫色の", "ピンク色の", "黒い"),
        shapes=("円", "四角形", "三角形", "星", "ひし形", "十字"),
        places=("左側", "右側", "上", "下", "真ん中"),
        group="{place}に{color}{shape}が{count}個",
        scene="この画像には、{groups}あります。",
        joint="、",
        clock="この画像の時計の針は{time}を指しています。",
        chart="このグラフは{count}個のカテゴリーの値を比べています。",
        table="この表には見出しの下に数字と名前の行が{count}行あります。",
    ),
    "ar": Language(
        colors=("الأحمر", "البرتقالي", "الأصفر", "الأخضر", "الأزرق", "البنفسجي", "الوردي", "الأسود"),
        shapes=("دوائر", "مربعات", "مثلثات", "نجوم", "معينات", "صلبان"),
        places=("على اليسار", "على اليمين", "في الأعلى", "في الأسفل", "في الوسط"),
        group="{shape} باللون {color} ({count}) {place}",
        scene="تظهر في هذه الصورة {groups}.",
        joint=" و",
        clock="تشير عقارب الساعة في هذه الصورة إلى الوقت {time}.",
        chart="يقارن هذا الرسم البياني بين قيم الفئات المختلفة وعددها {count}.",
        table="يحتوي هذا الجدول على صفوف من الأرقام والأسماء عددها {count}.",
    ),
}
"""By ISO 639-1 code."""


def describe(kind: str, facts: Mapping[str, Any], code: str) -> str:
    """The picture's caption in the language of an ISO 639-1 code, made from the renderer's facts."""
    language = LANGUAGES[code]
    if kind == "scene":
        groups = [
            language.group.format(
                count=group["count"],
                color=language.colors[_COLORS.index(group["color"])],
                shape=language.shapes[_SHAPES.index(group["shape"])],
                place=language.places[_PLACES.index(group["place"])],
            )
            for group in facts["groups"]
        ]
        return language.scene.format(groups=language.joint.join(groups))
    if kind == "clock":
        return language.clock.format(time=facts["time"])
    if kind == "chart":
        return language.chart.format(count=_chart_size(facts))
    return language.table.format(count=_table_size(facts))


def _chart_size(facts: Mapping[str, Any]) -> int:
    return len(facts["categories"])


def _table_size(facts: Mapping[str, Any]) -> int:
    return len(facts["rows"])
