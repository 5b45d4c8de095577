"""Files as torch.save wrote them before 1.6, made without PyTorch."""

import pickle
import sys
import types
from collections import OrderedDict

import numpy as np


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values


def write_state_dict(path, arrays, monkeypatch):
    """Write what torch.save wrote before 1.6, with stand-ins for its classes."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch", "__qualname__": "FloatStorage"})

    def _rebuild_tensor_v2(*_):
        raise AssertionError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Tensor:
        def __init__(self, key, array):
            self.key, self.array = key, array

        def __reduce__(self):
            steps = tuple(s // self.array.itemsize for s in self.array.strides)
            storage = Storage(torch.FloatStorage, self)
            return _rebuild_tensor_v2, (storage, 0, self.array.shape, steps, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Storage):
                return ("storage", obj.kind, obj.values.key, "cpu", obj.values.array.size, None)
            return None

    with open(path, "wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, 2)
        pickle.dump(1001, file, 2)
        pickle.dump({"little_endian": True}, file, 2)
        Pickler(file, 2).dump(OrderedDict((name, Tensor(name, a)) for name, a in arrays.items()))
        pickle.dump(list(arrays), file, 2)
        for array in arrays.values():
            flat = array.ravel(order="K").astype("<f4")
            file.write(np.int64(flat.size).tobytes() + flat.tobytes())
