"""Writes the small volumes of `volumes/` and `volumes/expected.json`: what nibabel and SimpleITK read from them.

NIfTI-2, .hdr/.img pairs, four axes, all 48 orientations, NRRD and MetaImage. `make_nifti.py` makes the NIfTI-1 files.

Run from this folder: python make_volumes.py
Made with Python 3.11, nibabel 5.4.2, numpy 2.4.6, SimpleITK 2.5.7, pynrrd 1.1.3.
"""
import gzip
import itertools
import json
import pathlib
import re
import shutil

import nibabel as nib
import nibabel.processing
import nrrd
import numpy as np
import SimpleITK as sitk

OUT = pathlib.Path(__file__).parent / "volumes"
SHAPE = (4, 3, 2)  # (i, j, k)
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([0.8, 1.2, 2.5]), [-10.5, 20.25, -30.0]
)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
expected = {}


def values(dtype, shape=SHAPE):
    """Values that use the sign and the width of the type."""
    n = np.arange(np.prod(shape)).reshape(shape, order="F")
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (n * 1.5 - 7.25).astype(dtype)
    if dtype.kind == "u":
        return (n * (1 if dtype.itemsize == 1 else 501)).astype(dtype)
    return ((n - 12) * (1 if dtype.itemsize == 1 else 301)).astype(dtype)


def expect(name, channels, affine, codes=(1, 1)):
    """`channels`: arrays (i, j, k)."""
    expected[name] = {
        "shape_dhw": list(channels[0].shape[::-1]),
        "affine": np.asarray(affine, float).tolist(),
        "codes": [int(code) for code in codes],
        # Memory order: k slowest, i fastest.
        "channels": [channel.astype(float).ravel(order="F").tolist() for channel in channels],
    }


def expect_nibabel(name, path=None):
    image = nib.load(path or OUT / name)
    array = image.get_fdata()
    array = array.reshape(array.shape[:3] + (-1,), order="F")
    codes = image.header["qform_code"], image.header["sform_code"]
    expect(name, list(np.moveaxis(array, -1, 0)), image.affine, codes)


def expect_sitk(name):
    image = sitk.ReadImage(str(OUT / name))
    array = sitk.GetArrayFromImage(image)  # [.., k, j, i, vector]
    dimension = image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() > 1:
        channels = np.moveaxis(array, -1, 0)
    elif dimension == 4:
        channels = array
    else:
        channels = array[None]
    channels = [channel.reshape(channel.shape if channel.ndim == 3 else (1,) + channel.shape).T for channel in channels]
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)
    affine = np.eye(4)
    n = min(dimension, 3)
    affine[:n, :n] = direction[:n, :n] @ np.diag(image.GetSpacing()[:n])
    affine[:n, 3] = image.GetOrigin()[:n]
    expect(name, channels, LPS @ affine)


def nifti_2(name, order="<", dtype="i2", shape=SHAPE, pair=False, **fields):
    h = (nib.nifti2.Nifti2PairHeader if pair else nib.Nifti2Header)(endianness=order)
    h.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    h.set_data_shape(shape)
    h["pixdim"][:4] = [1, 1.5, 2, 3]
    h.set_sform(OBLIQUE, 2)
    h.set_qform(OBLIQUE, 1)
    for field, value in fields.items():
        h[field] = value
    data = values(dtype, shape)
    voxels = data.astype(data.dtype.newbyteorder(order)).tobytes(order="F")
    if pair:
        (OUT / f"{name}.hdr").write_bytes(h.binaryblock)
        (OUT / f"{name}.img").write_bytes(voxels)
        return expect_nibabel(f"{name}.hdr", OUT / f"{name}.img")
    h["vox_offset"] = 544
    raw = h.binaryblock + b"\0\0\0\0" + voxels
    (OUT / name).write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    expect_nibabel(name)


def nifti_1_pair(name, order="<", dtype="i2", shape=SHAPE, compress=False, **fields):
    h = nib.nifti1.Nifti1PairHeader(endianness=order)
    h.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    h.set_data_shape(shape)
    h.set_qform(OBLIQUE, 1)
    for field, value in fields.items():
        h[field] = value
    data = values(dtype, shape)
    voxels = b"\0" * int(h["vox_offset"]) + data.astype(data.dtype.newbyteorder(order)).tobytes(order="F")
    pack = (lambda raw: gzip.compress(raw, mtime=0)) if compress else bytes
    end = ".gz" if compress else ""
    (OUT / f"{name}.hdr{end}").write_bytes(pack(h.binaryblock))
    (OUT / f"{name}.img{end}").write_bytes(pack(voxels))
    expect_nibabel(f"{name}.hdr{end}", OUT / f"{name}.img{end}")


shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()

# NIfTI-2.
for order, word in (("<", "little"), (">", "big")):
    for dtype in ("u1", "i2", "i8", "f4", "f8"):
        nifti_2(f"nifti2_{dtype}_{word}.nii", order, dtype)
nifti_2("nifti2.nii.gz")
nifti_2("nifti2_scaled.nii", scl_slope=0.1, scl_inter=-3.0)
nifti_2("nifti2_qform.nii", ">", sform_code=0)
nifti_2("nifti2_sizes.nii", sform_code=0, qform_code=0)
nifti_2("nifti2_pair", ">", "f4", pair=True)

# Pairs.
nifti_1_pair("pair_little")
nifti_1_pair("pair_big", ">", "f4")
nifti_1_pair("pair_offset", vox_offset=16, scl_slope=2.0, scl_inter=1.0)
nifti_1_pair("pair_compressed", compress=True)

# Four axes, and vectors as NIfTI has them (a fifth axis).
for name, shape in (
    ("four_axes.nii.gz", (4, 3, 2, 3)),
    ("vectors.nii.gz", (4, 3, 2, 1, 2)),
    ("plane.nii.gz", (4, 3)),
    ("row_of_planes.nii.gz", (4, 3, 1, 2)),
):
    image = nib.Nifti1Image(values("i2", shape), OBLIQUE)
    image.header["descrip"] = b""
    nib.save(image, OUT / name)
    if name == "plane.nii.gz":
        expect(name, [values("i2", shape)[..., None]], nib.load(OUT / name).affine,
               (image.header["qform_code"], image.header["sform_code"]))
    else:
        expect_nibabel(name)

# All orientations, with what nibabel calls them and makes of them in RAS.
orientations = {}
for axes in itertools.permutations(range(3)):
    for signs in itertools.product((1, -1), repeat=3):
        matrix = np.zeros((3, 3))
        for column, (row, sign) in enumerate(zip(axes, signs)):
            matrix[row, column] = sign
        tilt = nib.eulerangles.euler2mat(0.1, -0.15, 0.2)
        affine = nib.affines.from_matvec(tilt @ matrix @ np.diag([0.8, 1.2, 2.5]), [-10.5, 20.25, -30.0])
        code = "".join(nib.aff2axcodes(affine))
        image = nib.Nifti1Image(values("i2"), affine)
        entry = {"affine": affine.tolist()}
        for target in ("RAS", "LPS", "PIR"):
            change = nib.orientations.ornt_transform(
                nib.io_orientation(affine), nib.orientations.axcodes2ornt(target)
            )
            turned = image.as_reoriented(change)
            array = np.asanyarray(turned.dataobj)
            entry[target] = {
                "shape_dhw": list(array.shape[::-1]),
                "affine": turned.affine.tolist(),
                "values": array.ravel(order="F").tolist(),
            }
        orientations[code] = entry
assert len(orientations) == 48
# Sheared, and at 45 degrees, where two axes are equally near.
odd_codes = []
for affine in (
    [[1, 0.9, 0.3, 0], [0.2, 1, 0.8, 0], [0.1, -0.4, 1, 0], [0, 0, 0, 1]],
    [[1, 3, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]],
    [[1, -1, 0, 0], [1, 1, 0, 0], [0, 0, -2, 0], [0, 0, 0, 1]],
    [[0.1, 2, 0.1, 0], [-0.5, 0.4, 0.1, 0], [0.1, 0.3, 3, 0], [0, 0, 0, 1]],
):
    odd_codes.append({"affine": affine, "codes": "".join(nib.aff2axcodes(np.array(affine, float)))})

# NRRD by pynrrd, read by SimpleITK.
space = {"space": "left-posterior-superior", "space directions": (LPS @ OBLIQUE)[:3, :3].T,
         "space origin": (LPS @ OBLIQUE)[:3, 3]}
for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
    for endian in ("little", "big"):
        name = f"{dtype}_{endian}.nrrd"
        data = values(dtype)
        # pynrrd writes the order of the machine; the bytes are turned here.
        nrrd.write(str(OUT / name), data, {**space, "encoding": "raw"})
        raw = (OUT / name).read_bytes()
        if endian == "big" and data.itemsize > 1:
            head = raw[: -data.nbytes].replace(b"endian: little", b"endian: big")
            (OUT / name).write_bytes(head + data.byteswap().tobytes(order="F"))
        expect_sitk(name)
for encoding in ("gzip", "ascii"):
    name = f"{encoding}.nrrd"
    nrrd.write(str(OUT / name), values("i2"), {**space, "encoding": encoding})
    expect_sitk(name)
for word, sign in (
    ("right-anterior-superior", (1, 1, 1)),
    ("left-anterior-superior", (-1, 1, 1)),
    ("left-posterior-superior", (-1, -1, 1)),
    ("LPS", (-1, -1, 1)),
):
    name = f"space_{word}.nrrd"
    into = np.diag((*sign, 1.0)) @ OBLIQUE
    nrrd.write(str(OUT / name), values("i2"), {"space": word, "space directions": into[:3, :3].T,
                                               "space origin": into[:3, 3], "encoding": "raw"})
    expect_sitk(name)
nrrd.write(str(OUT / "spacings.nrrd"), values("i2"), {"spacings": [1.5, 2, 3], "encoding": "raw"})
expect_sitk("spacings.nrrd")
nrrd.write(str(OUT / "bare.nrrd"), values("i2"), {"encoding": "raw"})
expect_sitk("bare.nrrd")
nrrd.write(str(OUT / "plane.nrrd"), values("i2", (4, 3)), {"spacings": [1.5, 2], "encoding": "raw"})
expect_sitk("plane.nrrd")
for encoding in ("raw", "gzip"):
    name = f"detached_{encoding}.nhdr"
    nrrd.write(str(OUT / name), values("i2"), {**space, "encoding": encoding}, detached_header=True)
    expect_sitk(name)
# Voxels at the end of a file, after a line.
text = (OUT / "detached_raw.nhdr").read_text()
(OUT / "skipped.bin").write_bytes(b"a line\nfour" + values("i2").tobytes(order="F"))
(OUT / "line_and_bytes.nhdr").write_text(text.replace("data file: detached_raw.raw",
                                                      "line skip: 1\nbyte skip: 4\ndata file: skipped.bin"))
expect_sitk("line_and_bytes.nhdr")
(OUT / "last_bytes.nhdr").write_text(text.replace("data file: detached_raw.raw",
                                                  "byte skip: -1\ndata file: skipped.bin"))
expect_sitk("last_bytes.nhdr")
# Vectors: the fast axis, as 3D Slicer and SimpleITK write them; and the slow axis. ITK reads either as vectors.
vector = values("i2", (2, 4, 3, 2))
directions = (LPS @ OBLIQUE)[:3, :3].T
none = np.full((1, 3), np.nan)
nrrd.write(str(OUT / "vector_fast.nrrd"), vector, {**space, "space directions": np.vstack([none, directions]),
                                                   "kinds": ["vector", "domain", "domain", "domain"], "encoding": "raw"})
expect("vector_fast.nrrd", list(vector), OBLIQUE)
slow = values("i2", (4, 3, 2, 2))
nrrd.write(str(OUT / "vector_slow.nrrd"), slow, {**space, "space directions": np.vstack([directions, none]),
                                                 "kinds": ["domain", "domain", "domain", "list"], "encoding": "gzip"})
expect("vector_slow.nrrd", list(np.moveaxis(slow, -1, 0)), OBLIQUE)
middle = values("i2", (4, 2, 3, 2))
nrrd.write(str(OUT / "vector_middle.nrrd"), middle, {
    **space, "space directions": np.vstack([directions[:1], none, directions[1:]]),
    "kinds": ["domain", "list", "domain", "domain"], "encoding": "raw"})
expect("vector_middle.nrrd", list(np.moveaxis(middle, 1, 0)), OBLIQUE)


# MetaImage by SimpleITK.
def image_of(array, vector=False):
    """`array`: (i, j, k) and, for vectors, a first axis of components."""
    image = sitk.GetImageFromArray(array.T, isVector=vector)
    in_lps = LPS @ OBLIQUE
    n = image.GetDimension()
    if n == 3:
        spacing = np.linalg.norm(in_lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(in_lps[:3, 3].tolist())
        image.SetDirection((in_lps[:3, :3] / spacing).ravel().tolist())
    return image


for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
    sitk.WriteImage(image_of(values(dtype)), str(OUT / f"{dtype}.mha"))
    expect_sitk(f"{dtype}.mha")
sitk.WriteImage(image_of(values("i2")), str(OUT / "compressed.mha"), useCompression=True)
expect_sitk("compressed.mha")
sitk.WriteImage(image_of(values("i2")), str(OUT / "apart.mhd"))
expect_sitk("apart.mhd")
sitk.WriteImage(image_of(values("i2")), str(OUT / "apart_compressed.mhd"), useCompression=True)
expect_sitk("apart_compressed.mhd")
sitk.WriteImage(image_of(values("i2", (2, 4, 3, 2)), vector=True), str(OUT / "vector.mha"))
expect_sitk("vector.mha")
sitk.WriteImage(image_of(values("i2", (4, 3, 2, 3))), str(OUT / "four_axes.mha"))
expect_sitk("four_axes.mha")
sitk.WriteImage(image_of(values("i2", (4, 3))), str(OUT / "plane.mha"))
expect_sitk("plane.mha")
raw = (OUT / "i2.mha").read_bytes()
head = raw[: -values("i2").nbytes]
(OUT / "big.mha").write_bytes(head.replace(b"MSB = False", b"MSB = True") + values("i2").byteswap().tobytes(order="F"))
expect_sitk("big.mha")
(OUT / "text.mha").write_bytes(head.replace(b"BinaryData = True", b"BinaryData = False")
                               + " ".join(map(str, values("i2").ravel(order="F"))).encode())
# ITK itself reads no text beside a header.
expected["text.mha"] = expected["i2.mha"]
(OUT / "header_size.mhd").write_bytes(head.replace(b"ElementDataFile = LOCAL",
                                                   b"HeaderSize = 11\nElementDataFile = skipped.bin"))
expect_sitk("header_size.mhd")
(OUT / "header_size_last.mhd").write_bytes(head.replace(b"ElementDataFile = LOCAL",
                                                        b"HeaderSize = -1\nElementDataFile = skipped.bin"))
expect_sitk("header_size_last.mhd")

# What nibabel writes for a geometry: our writer's bytes are compared with these.
written = {}
for name, dtype, affine, codes in (
    ("written_f4", "f4", OBLIQUE, (1, 1)),
    ("written_i2_left_handed", "u1", OBLIQUE @ np.diag([-1, 1, 1, 1]), (2, 4)),
    ("written_u2_half_turn", "u2", np.array([[-1.5, 0, 0, 90], [0, -2, 0, 80], [0, 0, 3, -70], [0, 0, 0, 1.0]]), (1, 0)),
    ("written_u1_straight", "u1", np.diag([1.5, 2, 3, 1]), (0, 2)),
):
    # More than 255 for uint16, so that our writer chooses that type.
    data = np.abs(values("i2")).astype(dtype) if dtype == "u2" else values(dtype)
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    image.header.set_xyzt_units("mm")
    if codes[1] == 0:
        # What a reader ignores, our writer fills.
        image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
    image.to_filename(OUT / f"{name}.nii")
    expect_nibabel(f"{name}.nii")

# nibabel's resampling by affines onto another grid, which lies partly outside of the volume.
source = np.random.default_rng(7).normal(size=(7, 6, 5)).astype("f4")
onto = nib.eulerangles.euler2mat(-0.2, 0.4, 0.1) @ np.diag([1.1, -0.9, 2.0])
centre = nib.affines.apply_affine(OBLIQUE, [3, 2.5, 2])
onto = nib.affines.from_matvec(onto, centre - onto @ [3.6, 3.1, 2.4])
image = nib.Nifti1Image(source, OBLIQUE)
labels = nib.Nifti1Image((np.abs(source) * 3).astype("u2"), OBLIQUE)


def onto_grid(image, order, fill):
    return np.asanyarray(nib.processing.resample_from_to(image, ((8, 7, 6), onto), order=order, cval=fill).dataobj)


resampled = {
    "source_dhw": [5, 6, 7],
    "source_affine": OBLIQUE.tolist(),
    "source": source.ravel(order="F").tolist(),
    "target_dhw": [6, 7, 8],
    "target_affine": onto.tolist(),
    "fill": -7.0,
    "linear": onto_grid(image, 1, -7).ravel(order="F").tolist(),
    "nearest": onto_grid(image, 0, -7).ravel(order="F").tolist(),
    "labels": onto_grid(labels, 0, 9).ravel(order="F").tolist(),
}
assert 0.3 < np.mean(np.array(resampled["linear"]) != -7) < 0.9, np.mean(np.array(resampled["linear"]) != -7)

# Without the time of writing, so that a second run writes the same bytes.
for path in [*OUT.glob("*.nrrd"), *OUT.glob("*.nhdr")]:
    path.write_bytes(re.sub(rb"# on .*\n", b"", path.read_bytes()))


def lines(entries):
    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(entries.items())) + "\n}"


(OUT / "expected.json").write_text(lines(expected) + "\n")
(OUT / "orientations.json").write_text(lines(orientations) + "\n")
(OUT / "resampled.json").write_text(lines(resampled) + "\n")
(OUT / "odd_orientations.json").write_text(json.dumps(odd_codes) + "\n")
