from concurrent.futures import ThreadPoolExecutor

import pytest

from transforms.text.language import SCRIPTS, foreign, languages_of

ENGLISH = """
who explained why the launch was delayed
Taylor Swift Eras Tour Buenos Aires 2023
2019 Notre-Dame de Paris fire
Rosetta landing Philae comet Churyumov Gerasimenko
Typhoon Haiyan Tacloban Philippines relief
Jürgen Klopp farewell speech Anfield Liverpool
Carnaval de Barranquilla parade floats
Luiz Inácio Lula da Silva inauguration Brasília
Universidad Nacional Autónoma de México strike
Día de los Muertos altar offerings Oaxaca
Eyjafjallajökull eruption ash cloud Reykjavik
Novak Djokovic Rafael Nadal Roland Garros final
Côte d'Ivoire Ouagadougou coup ECOWAS
World Cup Semifinal Brazil Germany Belo Horizonte
recipe for mole poblano con pollo
animals evacuated ahead of eruption
CRISPR Cas9 gene editing babies He Jiankui
Pokémon Go Snorlax stampede Taipei
Why bridge closed Genoa Morandi collapse
the 2020 Tokyo 東京 opening ceremony
""".strip().splitlines()

FOREIGN = """
es cómo se preparan las tortillas de maíz en casa
es incendio forestal en la sierra de Madrid
es rescate de mineros atrapados
es mujer detenida tras accidente de tráfico
de warum wurde der Start der Rakete verschoben
de Rede der Bundeskanzlerin zur Klimapolitik im Bundestag
de wie man Sauerteigbrot zu Hause backt
de mann rettet hund aus dem eis
fr pourquoi le lancement de la fusée a été retardé
fr sauvetage d'un chien dans la glace
pt bombeiros resgatam família durante enchente
it perché il lancio del razzo è stato rinviato
nl waarom werd de lancering van de raket uitgesteld
pl dlaczego start rakiety został opóźniony
tr roketin fırlatılması neden ertelendi
id mengapa peluncuran roket itu ditunda
vi tại sao cây cầu bị đóng
ru почему запуск ракеты был отложен
zh 为什么火箭发射被推迟了
ar لماذا تأخر إطلاق الصاروخ
hi रॉकेट का प्रक्षेपण क्यों टल गया
ko 로켓 발사가 연기된 이유
ja ロケットの打ち上げが延期された理由
""".strip().splitlines()


@pytest.mark.parametrize("text", ENGLISH)
def test_english_passes_names_and_all(text: str):
    assert foreign(text, ["en"], 0.006) is None


@pytest.mark.parametrize("line", FOREIGN)
def test_other_languages_are_told_from_english_and_pass_as_themselves(line: str):
    language, text = line.split(maxsplit=1)
    assert foreign(text, ["en"], 0.006) is not None
    assert foreign(text, ["en", language], 0.006) is None


def test_the_script_is_decided_first_and_named():
    assert foreign("почему запуск был отложен", ["en"], 0.0) == "mostly Cyrillic letters"
    assert foreign("why was the launch delayed", ["ru"], 0.0) == "mostly Latin letters"


def test_languages_of_one_script_are_told_apart_where_the_model_is_sure():
    assert foreign("چرا پرتاب موشک به تعویق افتاد", ["ar"], 0.006) is not None  # Persian
    assert foreign("عن سبب تأجيل إطلاق الصاروخ", ["ar"], 0.006) is None


def test_what_has_no_letters_is_in_no_language_and_passes():
    assert foreign("2023 11:45 #7", ["en"], 0.5) is None
    assert foreign("", ["en"], 0.5) is None


def test_the_model_knows_every_language_that_can_be_asked_for():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert set(SCRIPTS) <= set(LanguageIdentifier.from_model_file(MODEL_FILE).labels)


def test_threads_get_the_same_answers():
    texts = [*ENGLISH, *FOREIGN]
    alone = [foreign(text, ["en"], 0.006) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: foreign(text, ["en"], 0.006), texts * 4)) == alone * 4


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        ("sushi restaurant tokyo", {"LATIN": "en"}),
        ("", {}),
        ("2024", {"LATIN": "en"}),
        ("наводнение в москве", {"CYRILLIC": "ru"}),
        ("El terremoto de México destruyó muchas casas", {"LATIN": "es"}),
        ("Hochwasser in Passau: Feuerwehr rettet Menschen 東京", {"LATIN": "de"}),
        ("the river flood наводнение в москве", {"CYRILLIC": "ru", "LATIN": "en"}),
    ],
)
def test_each_script_of_a_text_has_its_usual_language_unless_it_is_beyond_doubt_another(text, languages):
    assert languages_of(text.split()) == languages
