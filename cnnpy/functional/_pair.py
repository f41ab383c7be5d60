"""What the pairs of this package share: which gradients are wanted, and how they are returned."""


def select(function, Gradients, needs):
    """`needs` as bits, the first field's lowest."""
    fields = Gradients._fields
    if needs is None:
        return (1 << len(fields)) - 1
    if isinstance(needs, str):
        raise TypeError(f"{function}: needs is a str, expected a tuple of names")
    mask = 0
    for name in needs:
        if name not in fields:
            raise ValueError(f"{function}: needs holds {name!r}, expected some of {', '.join(fields)}")
        mask |= 1 << fields.index(name)
    return mask


def gradients(Gradients, values):
    return Gradients(*values)


def single(function, Gradients, needs, compute):
    """The gradients of an operation with one array: computed unless `needs` leaves it out."""
    return Gradients(compute() if select(function, Gradients, needs) else None)
