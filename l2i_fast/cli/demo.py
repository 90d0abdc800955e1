"""`l2i demo`: interpret a synthesised scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from l2i_fast.cli.options import output_folder
from l2i_fast.cli.results import print_result

Folder = Annotated[Path, output_folder("Folder for the scene, its interpretation and the picture.")]


def demo(output: Folder = Path("out/demo")) -> None:
    """Synthesise a scene and interpret it with the shipped model; nothing is downloaded."""
    from l2i_fast.audio import write_audio
    from l2i_fast.data.scene import SCENES, demo_scene
    from l2i_fast.model import load

    engine = load("esc10")
    output.mkdir(parents=True, exist_ok=True)
    front, (behind, _) = next(iter(SCENES.items()))
    y = demo_scene(front, sr=engine.sample_rate)
    scene = write_audio(output / "scene.wav", y, engine.sample_rate)
    result = engine.interpret(scene)
    title = f"synthesised: {front} with {behind} behind it".replace("_", " ")
    print_result(result, [scene, *result.save(output)], title)
