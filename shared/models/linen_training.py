"""A Linen call as in training: what is switched off at evaluation is switched on."""

import functools
from collections.abc import Callable
from typing import Any

from shared.models.switches import SWITCHES, Switches, has_switch


def switching(switches: Switches) -> Callable[..., Any]:
    """An interceptor that switches the attributes of modules and the arguments of their calls.

    Of calls within a call that has been switched, what is given is left as it is.
    """

    def intercept(method, args, kwargs, context):
        module = context.module
        bound = getattr(type(module), context.method_name, None)
        with switches.inside() as takes:
            if takes and has_switch(bound):
                # `self` has been bound.
                args, kwargs = switches.call(functools.partial(bound, module), args, kwargs)
            held = {name: vars(module)[name] for name in SWITCHES if name in vars(module)}
            try:
                for name, value in held.items():
                    # A module is frozen.
                    object.__setattr__(module, name, switches.value(name, value))
                return method(*args, **kwargs)
            finally:
                for name, value in held.items():
                    object.__setattr__(module, name, value)

    return intercept
