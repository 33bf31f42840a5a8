"""Pictures by SLD documents: OGC's Symbology Encoding, and GeoServer's types of colour maps.

[A] is the list of the installed client.
"""

from __future__ import annotations

from collections.abc import Iterator

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native

from gee.emulator.errors import EngineError
from gee.emulator.pixels import Limits

SIZE = 32


class World:
    def __init__(self, found: Earth) -> None:
        self.earth = found
        random = np.random.default_rng(1)
        self.values = random.integers(0, 400, (3, SIZE, SIZE)).astype(np.int16)
        self.mask = random.random((SIZE, SIZE)) > 0.1
        found.put("T/a", *(band(n, v, self.mask) for n, v in zip("abc", self.values, strict=True)))

    def painted(self, inner: str, tile: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        "Colours (3, h, w) and mask."
        image = ee.Image("T/a").sldStyle(f"<RasterSymbolizer>{inner}</RasterSymbolizer>")
        limits = None if tile is None else Limits(tile=tile, threads=1)
        found = self.earth.pixels(image, native(SIZE, SIZE), limits)
        assert list(found) == ["vis-red", "vis-green", "vis-blue"]
        data = np.stack([d for d, _ in found.values()])
        assert data.dtype == np.uint8
        return data.astype(float), next(iter(found.values()))[1] > 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with earth(tmp_path_factory.mktemp("styles")) as found:
        yield World(found)


ENTRIES = (
    '<ColorMapEntry color="#000080" quantity="100"/>'
    '<ColorMapEntry color="#00ff00" quantity="200"/>'
    '<ColorMapEntry color="#ff0040" quantity="300" opacity="{}"/>'
)
QUANTITIES = [100, 200, 300]
COLOURS = np.array([[0, 0, 128], [0, 255, 0], [255, 0, 64]])


def test_ramps_mix_colours(world: World) -> None:
    "type='ramp' is the default; beyond the ends the end's colour."
    data, mask = world.painted(f"<ColorMap>{ENTRIES.format(1)}</ColorMap>", 7)
    for k in range(3):
        expected = np.interp(world.values[0], QUANTITIES, COLOURS[:, k])
        np.testing.assert_allclose(data[k][mask], np.round(expected)[mask])
    np.testing.assert_array_equal(mask, world.mask)
    again, _ = world.painted(f'<ColorMap type="ramp">{ENTRIES.format(0.3)}</ColorMap>')
    np.testing.assert_array_equal(again, data)  # [A]: opacity counts only where it is 0


def test_intervals_colour_what_is_below(world: World) -> None:
    "type='intervals': below 100, 100 to 200, 200 to 300 (of opacity 0); nothing from 300 on."
    data, mask = world.painted(f'<ColorMap type="intervals">{ENTRIES.format(0)}</ColorMap>')
    values = world.values[0]
    np.testing.assert_array_equal(mask, world.mask & (values < 200))
    np.testing.assert_array_equal(
        data[:, mask & (values < 100)].T, COLOURS[:1].repeat((mask & (values < 100)).sum(), 0)
    )
    assert (data[1][mask & (values >= 100)] == 255).all()


def test_values_colour_only_themselves(world: World) -> None:
    entries = "".join(
        f'<ColorMapEntry color="#{k:02x}0000" quantity="{k}"/>' for k in range(0, 200, 2)
    )
    data, mask = world.painted(f'<ColorMap type="values">{entries}</ColorMap>')
    values = world.values[0]
    np.testing.assert_array_equal(mask, world.mask & (values < 200) & (values % 2 == 0))
    np.testing.assert_array_equal(data[0][mask], values[mask])


def test_symbology_encoding(world: World) -> None:
    "SE 1.1: Interpolate and Categorize say what ramps and intervals do, with a last colour."
    points = "".join(
        f"<InterpolationPoint><Data>{q}</Data><Value>#{r:02x}{g:02x}{b:02x}</Value></InterpolationPoint>"
        for q, (r, g, b) in zip(QUANTITIES, COLOURS, strict=True)
    )  # fmt: skip
    ramp, _ = world.painted(f"<ColorMap>{ENTRIES.format(1)}</ColorMap>")
    data, _ = world.painted(f"<ColorMap><Interpolate>{points}</Interpolate></ColorMap>")
    np.testing.assert_array_equal(data, ramp)
    parts = "<Value>#010000</Value><Threshold>150</Threshold><Value>#020000</Value>"
    data, mask = world.painted(f"<ColorMap><Categorize>{parts}</Categorize></ColorMap>")
    np.testing.assert_array_equal(data[0][mask], np.where(world.values[0] < 150, 1, 2)[mask])
    np.testing.assert_array_equal(mask, world.mask)


def test_channels_by_name_and_number(world: World) -> None:
    "[A]: names are tried first, then numbers from 1."
    channels = "".join(
        f"<{c}Channel><SourceChannelName>{n}</SourceChannelName></{c}Channel>"
        for c, n in (("Red", "c"), ("Green", "1"), ("Blue", "b"))
    )
    data, mask = world.painted(f"<ChannelSelection>{channels}</ChannelSelection>")
    for got, expected in zip(data, world.values[[2, 0, 1]], strict=True):
        np.testing.assert_array_equal(got[mask], np.clip(expected, 0, 255)[mask])
    default, _ = world.painted("")
    np.testing.assert_array_equal(default[:, mask], np.clip(world.values, 0, 255)[:, mask])


def test_contrast_and_gamma(world: World) -> None:
    "Normalize takes the range to 0..255, Histogram evens the shares, gamma is a power."
    gray = (
        "<ChannelSelection><GrayChannel><SourceChannelName>b</SourceChannelName>"
        "<ContrastEnhancement>{}</ContrastEnhancement></GrayChannel></ChannelSelection>"
    )
    values = world.values[1].astype(float)
    seen = values[world.mask]
    share = (values - seen.min()) / (seen.max() - seen.min())
    data, mask = world.painted(gray.format("<Normalize/>"))
    np.testing.assert_allclose(data[0][mask], np.round(share * 255)[mask], atol=1)
    np.testing.assert_array_equal(data[0], data[2])
    data, _ = world.painted(gray.format("<Normalize/><GammaValue>2</GammaValue>"))
    np.testing.assert_allclose(data[0][mask], np.round(share**0.5 * 255)[mask], atol=1)
    data, _ = world.painted(gray.format("<Histogram/>"))
    ranks = (seen[None, :] <= values[mask][:, None]).mean(axis=1)
    np.testing.assert_allclose(data[0][mask], ranks * 255, atol=2)


def test_whole_documents(world: World) -> None:
    "[A]: a complete document with namespaces, or the symbolizer alone; opacity 0 hides."
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><sld:StyledLayerDescriptor version="1.0.0" '
        'xmlns:sld="http://www.opengis.net/sld"><sld:NamedLayer><sld:Name>x</sld:Name>'
        "<sld:UserStyle><sld:FeatureTypeStyle><sld:Rule><sld:RasterSymbolizer>"
        '<sld:Opacity>0.0</sld:Opacity><sld:ColorMap><sld:ColorMapEntry color="#ffffff" '
        'quantity="1"/></sld:ColorMap></sld:RasterSymbolizer></sld:Rule>'
        "</sld:FeatureTypeStyle></sld:UserStyle></sld:NamedLayer></sld:StyledLayerDescriptor>"
    )
    found = world.earth.pixels(ee.Image("T/a").sldStyle(text), native(SIZE, SIZE))
    assert not found["vis-red"][1].any()
    found = world.earth.pixels(
        ee.Image("T/a").sldStyle(text.replace(">0.0<", ">0.4<")), native(SIZE, SIZE)
    )
    assert (found["vis-red"][0][world.mask] == 255).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<a>", "not well-formed XML"),
        ("<a/>", "exactly one RasterSymbolizer, not 0"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "must not declare document types"),
        ("<RasterSymbolizer><ColorMap/></RasterSymbolizer>", "has no entries"),
        (
            "<RasterSymbolizer><ColorMap><ColorMapEntry color='red' quantity='1'/></ColorMap>"
            "</RasterSymbolizer>",
            "#rrggbb, not 'red'",
        ),
        (
            "<RasterSymbolizer><ColorMap><ColorMapEntry color='#fff000'/></ColorMap>"
            "</RasterSymbolizer>",
            "quantity must be a number",
        ),
        (
            "<RasterSymbolizer><ChannelSelection><GrayChannel><SourceChannelName>9"
            "</SourceChannelName></GrayChannel></ChannelSelection></RasterSymbolizer>",
            "'9' did not match any bands",
        ),
    ],
)
def test_documents_that_cannot_be_used(world: World, text: str, words: str) -> None:
    with pytest.raises(EngineError, match=f"Image.sldStyle: .*{words}"):
        world.earth.info(ee.Image("T/a").sldStyle(text))
