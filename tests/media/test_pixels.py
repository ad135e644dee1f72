from itertools import pairwise

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw

from transforms.engines.registry import find_engine
from transforms.engines.stand_ins.colours import colour_names, named
from transforms.engines.stand_ins.pixels import Pixels, split_shots
from transforms.engines.stand_ins.shapes import find_shapes, place
from transforms.protocols.frames import Frame


def picture(background="red", *, shapes=(), size=(640, 360)) -> np.ndarray:
    """``shapes``: (kind, box or points, colour)."""
    canvas = PillowImage.new("RGB", size, background)
    draw = ImageDraw.Draw(canvas)
    for kind, where, colour in shapes:
        getattr(draw, kind)(where, fill=colour)
    return np.asarray(canvas)


def caption(*images: np.ndarray) -> str:
    return Pixels().load().caption([Frame(float(i), image) for i, image in enumerate(images)]).text


def disc(x: int, y: int, radius: int = 60) -> tuple:
    return ("ellipse", (x - radius, y - radius, x + radius, y + radius), "white")


def test_a_plain_scene_is_told_in_two_sentences():
    scene = picture(shapes=[disc(150, 180), ("rectangle", (400, 260, 600, 340), "blue")])
    assert caption(scene, scene) == (
        "One shot, medium bright and flat, mostly red and blue. "
        "A red background with a blue rectangle at the lower right and a white disc at the left; still picture."
    )


def test_a_cut_makes_two_shots_in_time_order():
    said = caption(*[picture("blue")] * 3, *[picture("yellow")] * 2)
    assert said.startswith("Two shots")
    assert "First, a blue background; still picture. Last, a yellow background; still picture." in said


def test_a_moving_disc_moves_the_way_it_goes():
    assert "the white disc moves right" in caption(*[picture(shapes=[disc(100 + 60 * i, 180)]) for i in range(6)])
    assert "the white disc moves up and left" in caption(
        *[picture(shapes=[disc(500 - 60 * i, 280 - 30 * i)]) for i in range(6)]
    )


def test_a_shape_that_leaps_is_not_said_to_move():
    assert "moves" not in caption(*[picture(shapes=[disc(100 if i % 2 else 520, 180)]) for i in range(6)])


def test_a_bar_that_grows_is_not_said_to_move():
    said = caption(*[picture(shapes=[("rectangle", (80, 100, 240 + 50 * i, 200), "white")]) for i in range(6)])
    assert "the white rectangle grows" in said
    assert "moves" not in said


def test_the_article_fits_the_colour():
    assert "An orange background" in caption(picture("#ff9010"))


def test_movement_alone_is_no_cut():
    noise = np.random.default_rng(0)
    frames = np.stack([noise.integers(0, 256, (36, 64, 3), dtype=np.uint8) for _ in range(4)])
    assert split_shots(frames) == [range(4)]


def test_many_shots_are_counted_but_only_the_longest_three_told():
    colours = ["red", "blue", "green", "yellow", "white"]
    said = caption(*[picture(colour) for colour in colours for _ in range(2 if colour != "white" else 1)])
    assert said.startswith("Five shots")
    assert "First, a red" in said
    assert "Last, a green" in said
    assert said.count(".") == 4


def test_sky_above_grass_is_told_as_such():
    scene = picture("#a8d0ff", shapes=[("rectangle", (0, 180, 640, 360), "#20a030")])
    assert "Light blue above green; still picture." in caption(scene)


def test_one_frame_and_one_pixel_are_enough():
    assert caption(np.zeros((1, 1, 3), dtype=np.uint8)) == (
        "One shot, very dark and flat, mostly black. A black background; still picture."
    )


def test_frames_of_another_size_are_brought_to_that_of_the_first():
    assert caption(picture("red"), picture("red", size=(320, 320))).startswith("One shot")


def test_noise_has_words_too():
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    assert caption(noise, noise[::-1]).startswith("One shot")


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((255, 0, 0), "red"),
        ((255, 140, 0), "orange"),
        ((255, 230, 0), "yellow"),
        ((0, 160, 0), "green"),
        ((0, 70, 0), "dark green"),
        ((0, 220, 220), "turquoise"),
        ((30, 60, 230), "blue"),
        ((0, 0, 90), "dark blue"),
        ((150, 50, 220), "purple"),
        ((255, 40, 200), "pink"),
        ((255, 190, 190), "light pink"),
        ((120, 70, 20), "brown"),
        ((240, 220, 180), "beige"),
        ((0, 0, 0), "black"),
        ((128, 128, 128), "grey"),
        ((255, 255, 255), "white"),
    ],
)
def test_colours_have_the_names_people_give_them(rgb, name):
    assert colour_names()[named(np.array([[rgb]], dtype=np.uint8))[0, 0]] == name


@pytest.mark.parametrize(
    ("kind", "where", "form"),
    [
        ("ellipse", (30, 20, 70, 60), "disc"),
        ("ellipse", (20, 20, 90, 50), "oval"),
        ("rectangle", (30, 20, 69, 59), "square"),
        ("rectangle", (20, 20, 99, 49), "rectangle"),
        ("rectangle", (0, 20, 127, 49), "horizontal band"),
        ("rectangle", (40, 0, 59, 71), "vertical band"),
        ("polygon", [(20, 60), (80, 60), (50, 10)], "triangle"),
        ("polygon", [(20, 10), (80, 10), (50, 60)], "triangle"),
        ("polygon", [(50, 5), (80, 35), (50, 65), (20, 35)], "diamond"),
        ("rectangle", (20, 30, 99, 33), "strip"),
    ],
)
def test_forms_are_recognised(kind, where, form):
    names = named(picture("red", shapes=[(kind, where, "white")], size=(128, 72)))
    (shape,) = find_shapes(names, frozenset({int(names[-1, -1])}))
    assert (colour_names()[shape.colour], shape.form) == ("white", form)


def test_two_patches_of_one_colour_are_two_shapes():
    squares = [("rectangle", (x, 20, x + 19, 39), "white") for x in (10, 80)]
    names = named(picture("red", shapes=squares, size=(128, 72)))
    assert [shape.form for shape in find_shapes(names, frozenset({int(names[0, 0])}))] == ["square", "square"]


def test_places_have_names():
    assert [place(x, y) for x, y in [(0, 0), (0.5, 0), (1, 0.5), (0.5, 0.5), (0, 1), (0.5, 1)]] == [
        "upper left",
        "top",
        "right",
        "centre",
        "lower left",
        "bottom",
    ]


def test_the_same_film_in_other_codecs_gets_much_the_same_words(extra_media):
    import av

    def words(name: str) -> set[str]:
        with av.open(str(extra_media / "clips" / name)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return set(caption(*frames[:: len(frames) // 8]).replace(",", "").split())

    av1, vp9, other = words("av1.mp4"), words("vp9.webm"), words("nasa_13013.mp4")
    assert len(av1 & vp9) / len(av1 | vp9) > 0.8
    assert len(av1 & other) / len(av1 | other) < 0.6


def test_the_same_frames_get_the_same_words_and_a_recipe_can_name_it():
    scenes = [picture(shapes=[disc(100 + 20 * i, 180)]) for i in range(4)]
    assert find_engine("caption", {"engine": "pixels"}) == Pixels()
    assert all(a == b for a, b in pairwise(caption(*scenes) for _ in range(3)))
    assert Pixels().stamp().name == "pixels"
