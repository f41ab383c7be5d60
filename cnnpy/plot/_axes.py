"""What every plot shares: matplotlib when it is first needed, and axes to draw on."""

__all__ = ["BLUE", "GREY", "ORANGE", "axes", "new_figure"]

BLUE, ORANGE, GREY = "#2a6fbb", "#d9662b", "#8a8f98"


def matplotlib(function):
    try:
        import matplotlib
    except ImportError:
        raise ImportError(f"plot.{function}: needs matplotlib; install it with: pip install 'cnnpy[plot]'") from None
    return matplotlib


def axes(function, ax, size=(5.0, 3.5)):
    """The axes given, or those of a new figure."""
    matplotlib(function)
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def new_figure(function, size, rows=1, columns=1):
    """A figure that no window shows, and its axes."""
    matplotlib(function)
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)
