"""The part of the code interpreter that runs in the Python kernel.

As an IPython extension it adds the forms e2b/data of data frames and e2b/chart of
matplotlib's figures to results. Its functions are called by the server, as code that
shows nothing: they take JSON.
"""

import json
import os
import sys

MAX_CELLS = 1_000_000  # larger data frames have no e2b/data
MAX_POINTS = 1_000_000  # larger figures have no e2b/chart

_pushed = []


def set_env(text):
    os.environ.update(json.loads(text))


def push_env(text):
    """Sets variables until pop_env."""
    new = json.loads(text)
    _pushed.append({name: os.environ.get(name) for name in new})
    os.environ.update(new)


def pop_env(_=None):
    for name, value in (_pushed.pop() if _pushed else {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def reseed(_=None):
    """Replaces the random state, which other clones of the same snapshot have too."""
    fresh = os.urandom(64)
    import random

    random.seed(fresh)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed([int.from_bytes(fresh[i : i + 4], "little") for i in range(0, 64, 4)])
    import ssl
    import tempfile

    ssl.RAND_add(fresh, len(fresh))
    tempfile._name_sequence = None


def warm(_=None):
    """Imports the libraries that most programs use and draws a figure, once before the snapshot."""
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas as pd
    from IPython import get_ipython

    shell = get_ipython()
    figure, axes = plt.subplots()
    axes.plot(np.arange(3), label="x")
    axes.bar([0, 1], [1, 2])
    axes.set_title("warm")
    axes.legend()
    shell.display_formatter.format(figure)
    plt.close(figure)
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    shell.display_formatter.format(frame)
    frame.groupby("b").sum().describe()
    reseed()  # a clone does so first: it then imports nothing


def load_ipython_extension(shell):
    from IPython.core.formatters import BaseFormatter
    from traitlets import ObjectName, Unicode

    class Data(BaseFormatter):
        format_type = Unicode("e2b/data")
        print_method = ObjectName("_repr_e2b_data_")
        _return_type = (dict,)

    class Chart(BaseFormatter):
        format_type = Unicode("e2b/chart")
        print_method = ObjectName("_repr_e2b_chart_")
        _return_type = (dict,)

        def __call__(self, value):
            # The inline backend removes what formatters know of figures.
            figures = sys.modules.get("matplotlib.figure")
            if figures is not None and isinstance(value, figures.Figure):
                return _quietly(chart_of)(value)
            return super().__call__(value)

    for kind in (Data, Chart):
        formatter = kind(parent=shell.display_formatter)
        formatter.enabled = True
        shell.display_formatter.formatters[formatter.format_type] = formatter
        shell.display_formatter.active_types = [*shell.display_formatter.active_types, formatter.format_type]
    formatters = shell.display_formatter.formatters
    formatters["e2b/data"].for_type_by_name("pandas.core.frame", "DataFrame", _quietly(data_of))
    _keep_all_output(shell)
    _show_saved_images()


def _keep_all_output(shell):
    """Lets no message of the kernel be dropped: the server bounds what waits for it."""
    import zmq

    kernel = getattr(shell, "kernel", None)
    thread = getattr(kernel, "iopub_thread", None)
    if thread is not None:
        thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, 0))


def _show_saved_images():
    """Makes each image that PIL saves under a name a result too, as E2B's template does."""
    from IPython.display import display
    from PIL.Image import Image

    save = Image.save

    def show_and_save(self, fp, format=None, **params):
        save(self, fp, format, **params)
        if isinstance(fp, (str, os.PathLike)):
            _quietly(display)(self)

    Image.save = show_and_save


def _quietly(make):
    def form(value):
        try:
            return make(value)
        except Exception:  # the other forms of the result are shown
            return None

    return form


def _plain(value):
    """Returns value as JSON knows it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and value not in (float("inf"), float("-inf")) else None
    if hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _plain(value.item())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return str(value)


def data_of(frame):
    """Returns a data frame as a dict of lists."""
    if frame.size > MAX_CELLS:
        return None
    return {str(name): [_plain(v) for v in values] for name, values in frame.to_dict(orient="list").items()}


# Charts

_SCALES = {"linear", "datetime", "categorical", "log", "symlog", "logit", "function", "functionlog", "asinh"}


def chart_of(figure):
    """Returns the chart of a figure: that of its only axes, or a superchart of several."""
    axes = [a for a in figure.axes if a.axison or a.patches or a.lines]
    charts = [_chart(a) for a in axes if not _is_colorbar(a)]
    if not charts:
        return None
    if len(charts) == 1:
        return charts[0]
    title = (figure._suptitle.get_text() if figure._suptitle else "") or None
    return {"type": "superchart", "title": title, "elements": charts}


def _is_colorbar(axes):
    return axes.get_label() == "<colorbar>"


def _chart(axes):
    from matplotlib.patches import Wedge

    title = axes.get_title() or axes.get_title("left") or axes.get_title("right")
    chart = {"type": "unknown", "title": title or None, "elements": []}
    if any(isinstance(p, Wedge) for p in axes.patches):
        return {**chart, "type": "pie", "elements": _pie(axes)}
    x, y = axes.get_xlabel(), axes.get_ylabel()
    chart.update(x_label=x or None, y_label=y or None, x_unit=_unit(x), y_unit=_unit(y))
    boxes = _boxes(axes)
    if boxes is not None:
        return {**chart, "type": "box_and_whisker", "elements": boxes}
    bars = _bars(axes)
    if bars:
        return {**chart, "type": "bar", "elements": bars}
    lines = _lines(axes)
    if lines:
        return {**chart, "type": "line", "elements": lines, **_ticks(axes)}
    points = _scatter(axes)
    if points:
        return {**chart, "type": "scatter", "elements": points, **_ticks(axes)}
    return chart


def _unit(label):
    """Returns the unit at the end of a label such as "time (s)" or "time [s]"."""
    for start, end in (("(", ")"), ("[", "]")):
        if label.endswith(end) and start in label:
            return label[label.rindex(start) + 1 : -1].strip() or None
    return None


def _scale(axis):
    import matplotlib.category
    import matplotlib.dates

    if isinstance(axis.get_converter() if hasattr(axis, "get_converter") else axis.converter, matplotlib.category.StrCategoryConverter):
        return "categorical"
    if isinstance(axis.get_major_locator(), matplotlib.dates.DateLocator):
        return "datetime"
    name = axis.get_scale()
    return name if name in _SCALES else "linear"


def _place(axis, value):
    """Returns a coordinate as the user gave it: dates and categories are numbers on an axis."""
    scale = _scale(axis)
    if scale == "datetime":
        import matplotlib.dates

        if not isinstance(value, (int, float)) and not hasattr(value, "dtype"):
            return _plain(value)
        if getattr(getattr(value, "dtype", None), "kind", "f") == "M":
            return str(value)
        return matplotlib.dates.num2date(value).isoformat()
    if scale == "categorical" and not isinstance(value, str):
        names = {index: name for name, index in axis.units._mapping.items()} if axis.units else {}
        return names.get(value, _plain(value))
    return _plain(value)


def _ticks(axes):
    out = {}
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        out[f"{name}_ticks"] = [_place(axis, t) if _scale(axis) == "datetime" else _plain(t) for t in axis.get_majorticklocs()]
        out[f"{name}_tick_labels"] = [label.get_text() for label in axis.get_majorticklabels()]
        out[f"{name}_scale"] = _scale(axis)
    return out


def _points(axes, pairs):
    return [[_place(axes.xaxis, x), _place(axes.yaxis, y)] for x, y in pairs]


def _lines(axes):
    lines = [line for line in axes.lines if len(line.get_xdata(orig=True)) > 0]
    if sum(len(line.get_xdata(orig=True)) for line in lines) > MAX_POINTS:
        return []
    return [
        {"label": _label(line, i, "Line"), "points": _points(axes, zip(line.get_xdata(orig=True), line.get_ydata(orig=True)))}
        for i, line in enumerate(lines)
    ]


def _label(artist, index, kind):
    label = str(artist.get_label())
    return label if not label.startswith("_") else f"{kind} {index + 1}"


def _scatter(axes):
    from matplotlib.collections import PathCollection

    found = [c for c in axes.collections if isinstance(c, PathCollection)]
    if sum(len(c.get_offsets()) for c in found) > MAX_POINTS:
        return []
    return [{"label": _label(c, i, "Scatter"), "points": _points(axes, c.get_offsets().tolist())} for i, c in enumerate(found)]


def _bars(axes):
    """Returns the bars of the axes. A horizontal bar has its label on the y axis."""
    from matplotlib.container import BarContainer

    out = []
    for i, group in enumerate(c for c in axes.containers if isinstance(c, BarContainer)):
        upright = group.orientation != "horizontal"
        axis = axes.xaxis if upright else axes.yaxis
        names = dict(zip(axis.get_majorticklocs(), (t.get_text() for t in axis.get_majorticklabels())))
        for bar in group:
            middle = bar.get_x() + bar.get_width() / 2 if upright else bar.get_y() + bar.get_height() / 2
            value = bar.get_height() if upright else bar.get_width()
            name = next((n for at, n in names.items() if abs(at - middle) < 1e-6), None)
            label = name if name else _place(axis, middle)
            out.append({"label": str(label), "group": _label(group, i, "Group"), "value": _plain(value)})
    return out


def _pie(axes):
    from matplotlib.patches import Wedge

    wedges = [p for p in axes.patches if isinstance(p, Wedge)]
    # matplotlib computes the angles in single precision.
    return [
        {"label": _label(w, i, "Part"), "angle": round(float(abs(w.theta2 - w.theta1)), 4), "radius": _plain(w.r)}
        for i, w in enumerate(wedges)
    ]


def _boxes(axes):
    """Returns the boxes that boxplot has drawn, or None if there are none.

    A box is a closed line or patch; its whiskers, caps, median and outliers are lines. They
    are found by their places, because the axes do not record who drew them.
    """
    from matplotlib.patches import PathPatch

    boxes = [(p.get_path().vertices, p) for p in axes.patches if isinstance(p, PathPatch)]
    lines = list(axes.lines)
    boxes += [(line.get_xydata(), line) for line in lines if len(line.get_xdata()) == 5]
    if not boxes or not any(len(line.get_xdata()) == 2 for line in lines):
        return None
    upright = _upright(boxes, lines)
    across, along = (0, 1) if upright else (1, 0)
    labels = _box_labels(axes.xaxis if upright else axes.yaxis)
    out = []
    for i, (vertices, _) in enumerate(boxes):
        vertices = vertices[:5]
        middle = (vertices[:, across].min() + vertices[:, across].max()) / 2
        low, high = vertices[:, along].min(), vertices[:, along].max()
        found = _parts(lines, middle, low, high, across, along)
        label = next((text for at, text in labels if abs(at - middle) < 1e-6), str(i + 1))
        out.append(
            {
                "label": label,
                "min": _plain(min([low, *found["ends"]])),
                "first_quartile": _plain(low),
                "median": _plain(found["median"]),
                "third_quartile": _plain(high),
                "max": _plain(max([high, *found["ends"]])),
                "outliers": [_plain(v) for v in found["outliers"]],
            }
        )
    return out


def _upright(boxes, lines):
    """Reports whether the whiskers, which go through the middle of a box, are upright."""
    vertices = boxes[0][0][:5]
    middle = (vertices[:, 0].min() + vertices[:, 0].max()) / 2
    for line in lines:
        points = line.get_xydata()
        if len(points) == 2 and abs(points[0][0] - points[1][0]) < 1e-9 and abs(points[0][0] - middle) < 1e-9:
            return True
    return False


def _box_labels(axis):
    return [(at, label.get_text()) for at, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels()) if label.get_text()]


def _parts(lines, middle, low, high, across, along):
    """Sorts the lines that belong to the box around middle, from low to high."""
    out = {"ends": [], "median": low, "outliers": []}
    for line in lines:
        points = line.get_xydata()
        if line.get_linestyle() == "None" and line.get_marker() not in ("None", "", None):
            out["outliers"] += [p[along] for p in points if abs(p[across] - middle) < 1e-6]
        elif len(points) != 2 or abs((points[0][across] + points[1][across]) / 2 - middle) > 1e-6:
            continue
        elif abs(points[0][across] - points[1][across]) < 1e-9:  # a whisker
            out["ends"] += [points[0][along], points[1][along]]
        elif points[0][along] == points[1][along] and low <= points[0][along] <= high and _is_median(line, lines, points, across):
            out["median"] = points[0][along]
    return out


def _is_median(line, lines, points, across):
    """Tells a median from a cap at the edge of the box: caps are narrower."""
    width = abs(points[0][across] - points[1][across])
    return all(width >= abs(o.get_xydata()[0][across] - o.get_xydata()[1][across]) - 1e-9 for o in lines if len(o.get_xydata()) == 2)
