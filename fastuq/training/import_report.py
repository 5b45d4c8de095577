"""What an import found, as lines to read."""

from typing import Any

from fastuq.training.head_check import head_lines

_MOST = 4


def import_lines(made: dict[str, Any], head: Any) -> list[str]:
    """Return where a network was cut, what its head is, what is off, how it was checked, and warnings.

    Parameters
    ----------
    made : dict
        ``model.info["made"]`` of a model that was imported.
    head : Head
    """
    cut, checked, data = made["cut"], made["checked"], made["data"]
    lines = [
        f"cut         after {cut['after']}: {cut['features']} features, {cut['static_share']:.2%} of the multiply-adds "
        "run once per image",
        f"head        {', '.join(_block(block) for block in head.blocks)}",
    ]
    active = [f"{name} ({rate:g})" for name, rate in cut["active_dropout"].items()]
    lines.append(f"dropout     active: {', '.join(active)}" if active else _NONE)
    if cut["inactive"]:
        names = [f"{each['name']} ({each['kind']})" for each in cut["inactive"]]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        lines.append(f"            off, before the cut or no dropout: {', '.join(names[:_MOST])}{more}")
    lines += [
        f"warning     {each['name']} ({each['kind']}) has code of its own, which is not run: taken as Keras's Dropout"
        for each in cut["taken_as_dropout"]
    ]
    if checked["iterations"]:
        lines.append(
            f"checked     against Keras's own dropout: means within {checked['mean_difference']:.3f}, deviations "
            f"within {checked['std_difference']:.3f} ({checked['images']} images, {checked['iterations']} iterations)"
        )
    lines += [f"labels      {made['labels']}"] if "labels" in made else []
    if "accuracy_float32" in data:
        lines.append(
            f"data        accuracy float32 {data['accuracy_float32']:.2%}   int8 {data['accuracy_int8']:.2%}   "
            f"agreement {data['agreement']:.2%}   ({data['images']} images of {made['training_images']})"
        )
    else:
        lines.append(
            f"data        agreement of int8 with float32 {data['agreement']:.2%} "
            f"({data['images']} images without labels)"
        )
    if "agreement_one_range" in data:
        lines.append(
            "ranges      of activations: those of each image; with one range for all of them the agreement would be "
            f"{data['agreement_one_range']:.2%}"
        )
    return [*lines, *(f"warning     {text}" for text in data["warnings"])]


_NONE = (
    "warning     no dropout in the head: all iterations are alike, every deviation is 0 and nothing is uncertain; "
    "--dropout RATE puts one in"
)


def _block(block: Any) -> str:
    inputs, outputs = block.weights.shape
    affine = "affine, " if block.scale is not None else ""
    return f"{affine}dropout {block.rate:g}, dense {inputs} x {outputs} {block.activation}"


def features_lines(report: dict[str, Any]) -> list[str]:
    """Return what was found while embeddings were coded and a head on them was rounded: the keys that are there."""
    held = [f"accuracy holdout {report['accuracy_holdout']:.2%}"] if "accuracy_holdout" in report else []
    head = head_lines(report["head_int8"]) if "head_int8" in report else []
    return [*held, *_cut_off_lines(report.get("cut_off")), *head]


def _cut_off_lines(cut: dict[str, Any] | None) -> list[str]:
    """Return what was cut off while rows were coded; nothing where nothing was."""
    if cut is None or not cut["values"]:
        return []
    most = ", ".join(f"{dimension} ({count})" for dimension, count in cut["most_in"].items())
    lines = [
        f"cut off     values beyond the model's scales: {cut['values']} ({cut['share']:.2%}), in {cut['rows']} of "
        f"{cut['coded_rows']} rows; most in dimension (how many): {most}"
    ]
    if cut["warn"]:
        lines.append(
            f"warning     more than 1% of all values, or a tenth of a row's ({cut['rows_over_a_tenth']} such rows), "
            "were cut off: moments of such rows are wrong; are they scaled as those that the model was made of?"
        )
    return lines
