"""Where on the circle does a value stand?

A taxonomy lists its values around the circle. Schwartz (1992) puts tradition outside conformity, in one wedge with it,
and hedonism between openness to change and self-enhancement; so there are two readings of his circle: `wedges`, the
theory's, in which conformity and tradition share a place, and `circle`, ten places of equal size.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.taxonomy import Taxonomy

Reading = Literal["wedges", "circle"]
READINGS: tuple[Reading, ...] = ("wedges", "circle")
# Value -> the one whose wedge it lies in, farther from the centre.
OUTSIDE = {"tradition": "conformity"}


def places_of(taxonomy: Taxonomy, reading: Reading) -> tuple[NDArray[np.float64], float]:
    """Return the place of every value of a taxonomy, in its order, float64 [K], and the number of places.

    Raises:
        ValueError: The taxonomy has no circle of all its values.
    """
    around = taxonomy.circumplex
    if set(around) != set(taxonomy.slugs):
        raise ValueError(f"taxonomy {taxonomy.name} has no circle of all its values")
    inside = {slug: OUTSIDE[slug] for slug in around if slug in OUTSIDE and OUTSIDE[slug] in around}
    if reading == "circle":
        inside = {}
    places = {slug: place for place, slug in enumerate(slug for slug in around if slug not in inside)}
    places |= {slug: places[inner] for slug, inner in inside.items()}
    return np.array([places[slug] for slug in taxonomy.slugs], dtype=np.float64), float(len(around) - len(inside))
