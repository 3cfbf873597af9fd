"""How much memory a device has."""

import os

import jax


def bytes_of_one() -> int:
    """Returns the bytes of memory that this process may use on one of its devices.

    CPU devices share the memory of the machine.
    """
    device = jax.local_devices()[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine // jax.local_device_count()
