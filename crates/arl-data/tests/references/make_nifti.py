"""Writes the small NIfTI files of `nifti/` and `nifti/expected.json`, what nibabel reads from them.

Run from this folder: python make_nifti.py
Made with Python 3.11, nibabel 5.4.2, numpy 2.4.6.
"""
import gzip
import json
import pathlib

import nibabel as nib
import numpy as np

OUT = pathlib.Path(__file__).parent / "nifti"
SHAPE = (4, 3, 2)  # (i, j, k)
TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([0.8, 1.2, 2.5]), [-10.5, 20.25, -30.0]
)
expected = {}


def values(dtype):
    """Values that use the sign and the width of the type."""
    n = np.arange(np.prod(SHAPE)).reshape(SHAPE, order="F")
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (n * 1.5 - 7.25).astype(dtype)
    if dtype.kind == "u":
        return (n * (1 if dtype.itemsize == 1 else 1001)).astype(dtype)
    return ((n - 12) * (5 if dtype.itemsize == 1 else 1001)).astype(dtype)


def header(order="<", dtype="i2"):
    h = nib.Nifti1Header(endianness=order)
    h.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    h.set_data_shape(SHAPE)
    h["vox_offset"] = 352
    h["magic"] = b"n+1"
    h["pixdim"][:4] = [1, 1.5, 2, 3]
    return h


def save(name, h, data):
    order = h.endianness
    raw = h.binaryblock + b"\0\0\0\0" + data.astype(data.dtype.newbyteorder(order)).tobytes(order="F")
    path = OUT / name
    path.write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    image = nib.load(path)
    array = image.get_fdata()
    while array.ndim < 3:
        array = array[..., None]
    array = array.reshape(array.shape[:3])
    expected[name] = {
        "shape_dhw": list(array.shape[::-1]),
        "affine": image.affine.tolist(),
        "codes": [int(image.header["qform_code"]), int(image.header["sform_code"])],
        # Memory order: k slowest, i fastest.
        "values": array.ravel(order="F").tolist(),
    }


OUT.mkdir(exist_ok=True)
for order, word in (("<", "little"), (">", "big")):
    for dtype in TYPES:
        save(f"{dtype}_{word}.nii", header(order, dtype), values(dtype))

h = header()
save("compressed.nii.gz", h, values("i2"))

h = header()
h.set_sform(OBLIQUE, 2)
h.set_qform(np.diag([1.5, 2, 3, 1]), 1)
save("sform_before_qform.nii.gz", h, values("i2"))

h = header()
h.set_qform(OBLIQUE, 1)
save("qform_only.nii", h, values("i2"))

h = header(">")
h.set_qform(OBLIQUE @ np.diag([1, 1, -1, 1]), 3)
save("qform_left_handed_big.nii", h, values("i2"))

h = header()
h.set_qform(np.array([[-1.5, 0, 0, 90], [0, -2, 0, 80], [0, 0, 3, -70], [0, 0, 0, 1.0]]), 1)
save("qform_half_turn.nii", h, values("i2"))

h = header()
h["qform_code"] = 1
h["pixdim"][0] = 0  # neither 1 nor -1: read as 1
h["quatern_d"] = 0.6
save("qform_without_qfac.nii", h, values("i2"))

h = header()
h["pixdim"][1:4] = [1.5, -2, 3]
save("pixdim_odd.nii", h, values("i2"))

h = header()
h.set_sform(np.array([[1, 0.3, 0, 0], [0, 1, 0.1, 5], [0, 0, 2, 0], [0, 0, 0, 1.0]]), 4)
save("sform_sheared.nii", h, values("i2"))

for name, slope, inter in (
    ("scaled", 0.5, -3.25),
    ("scaled_negative", -2.0, 0.0),
    ("slope_zero", 0.0, 7.0),
    ("slope_nan", np.nan, np.nan),
    ("slope_one", 1.0, 10.0),
):
    h = header()
    h["scl_slope"], h["scl_inter"] = slope, inter
    save(f"{name}.nii", h, values("i2"))

h = header(dtype="f4")
h["scl_slope"], h["scl_inter"] = 0.1, 1.0
save("scaled_float.nii.gz", h, values("f4"))

# Not among the expected: JSON has no NaN.
h = header(dtype="f4")
data = values("f4")
data[1, 1, 1] = np.nan
(OUT / "with_nan.nii").write_bytes(h.binaryblock + b"\0\0\0\0" + data.tobytes(order="F"))

h = header()
h["dim"][:5] = [4, 4, 3, 2, 1]
save("four_axes_one_volume.nii", h, values("i2"))

h = header()
h["dim"][:4] = [2, 4, 6, 1]
save("plane.nii", h, values("i2").reshape((4, 6), order="F"))

h = header()
h["vox_offset"] = 368
raw = h.binaryblock + b"\1\0\0\0" + (16).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"comment\0"
path = OUT / "extension.nii"
path.write_bytes(raw + values("i2").tobytes(order="F"))
image = nib.load(path)
expected["extension.nii"] = {
    "shape_dhw": list(SHAPE[::-1]),
    "affine": image.affine.tolist(),
    "codes": [0, 0],
    "values": image.get_fdata().ravel(order="F").tolist(),
}

expected = dict(sorted(expected.items()))
lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in expected.items())
(OUT / "expected.json").write_text("{\n" + lines + "\n}\n")
