"""A checkpoint of nnU-Net's own trainer, with its plans and what its own predictor makes of an image.

    pip install nnunetv2==2.8.1 torch==2.15.0 nibabel
    python nnunet_checkpoint.py nnunet

writes the folder `nnunet`: `checkpoint_final.pth` after two iterations of training a tiny network on four drawn volumes (CPU, as
the trainer leaves it, but for the optimiser's state and the logs), `plans.json`, `dataset.json`, `image_0000.nii.gz` and
`image_0001.nii.gz`, `labels.nii.gz` (predicted with half-overlapping Gaussian windows and no mirroring, the logits weighed and summed in 32 bits),
`mirrored.nii.gz` (with mirroring) and `half.nii.gz` (without, in 16 bits as nnU-Net does). Called with `residual` as a second
word, the network has a residual encoder. With `transposed`, the slices of the volumes are thick along x, so that nnU-Net puts that axis
first, and are read by its NibabelIOWithReorient, which turns them to RAS. With `batch`, the trainer is nnUNetTrainerBN, which puts batch
normalisation where its plans say instance. With `regions`, the network tells overlapping regions from MR images that are zero around the
body, so that they are cropped and standardised within it, and the image that it predicts has fewer slices than a patch.

    python nnunet_checkpoint.py nnunet resampled

adds images whose voxels have other sizes than the network's, `fine` and `thick` (whose axis of slices nnU-Net resamples apart), and
what the network in that folder makes of them: `NAME_0000.nii.gz`, `NAME_0001.nii.gz`, and `NAME.nii.gz`, weighed and summed in 32 bits.
"""

import functools
import json
import os
import pathlib
import shutil
import sys
import tempfile

import nibabel as nib
import numpy as np

OUT = pathlib.Path(sys.argv[1])
RESIDUAL = "residual" in sys.argv[2:]
TRANSPOSED = "transposed" in sys.argv[2:]
BATCH = "batch" in sys.argv[2:]
REGIONS = "regions" in sys.argv[2:]
SPACING = (2.5, 1.1, 0.9) if TRANSPOSED else (0.9, 1.1, 2.5)
RESAMPLED = {"fine": ((0.7, 0.8, 1.9), (41, 47, 20)), "thick": ((0.8, 1.3, 4.2), (35, 29, 9))}
NAME = "Dataset001_Drawn"


def draw(case, shape=None):
    """Two channels and labels of a drawn body, `[i, j, k]`."""
    random = np.random.default_rng(case)
    shape = shape or ((15, 34, 30 + case) if TRANSPOSED else (30 + case, 34, 15))
    i, j, k = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    body = (i / 0.8) ** 2 + (j / 0.7) ** 2 < 1
    first = (i - 0.2 - case / 50) ** 2 + j**2 + k**2 / 2 < 0.08
    second = (i + 0.3) ** 2 + (j - 0.1) ** 2 + k**2 / 2 < 0.06
    labels = np.zeros(shape, np.uint8)
    labels[first], labels[second] = 1, 2
    ct = np.where(body, 40 + 60 * first + 120 * second, -1000) + random.normal(0, 15, shape)
    mr = np.where(body, 300 + 200 * first - 100 * second, 0) + random.normal(0, 10, shape) * body
    if REGIONS:
        ct = (ct + 1200) * body
    return ct.round().astype(np.int16), mr.round().astype(np.int16), labels


def save(array, path, spacing=SPACING):
    nib.save(nib.Nifti1Image(array, np.diag([-spacing[0], -spacing[1], spacing[2], 1])), path)


def folders():
    work = pathlib.Path(tempfile.mkdtemp())
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir()
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ["nnUNet_n_proc_DA"] = "1"
    os.environ["nnUNet_compile"] = "f"
    return work


def predict(folder, images, result, mirroring, buffers):
    """What the network in `folder` makes of two channels; its logits weighed and summed in the numbers of `buffers`."""
    import torch
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.inference import sliding_window_prediction as sliding
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    half = torch.half
    torch.half = buffers
    predict_from_raw_data.compute_gaussian = functools.lru_cache(functools.partial(sliding.compute_gaussian, dtype=buffers))
    predictor = nnUNetPredictor(tile_step_size=0.5, use_gaussian=True, use_mirroring=mirroring, perform_everything_on_device=False, device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(folder), ("all",), "checkpoint_final.pth")
    predictor.predict_from_files_sequential([[str(image) for image in images]], [str(result)], save_probabilities=False, overwrite=True)
    torch.half = half


def resampled():
    import torch

    work = folders()
    (work / "model" / "fold_all").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(OUT / name, work / "model")
    shutil.copy(OUT / "checkpoint_final.pth", work / "model" / "fold_all")
    for case, (name, (spacing, shape)) in enumerate(RESAMPLED.items()):
        images = [OUT / f"{name}_{channel:04}.nii.gz" for channel in (0, 1)]
        for channel, image in enumerate(images):
            save(draw(12 + case, shape)[channel], image, spacing)
        predict(work / "model", images, work / name, False, torch.float32)
        shutil.copy(work / f"{name}.nii.gz", OUT)


def main():
    work = folders()
    raw = work / "raw" / NAME
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    for case in range(4):
        ct, mr, labels = draw(case)
        save(ct, raw / "imagesTr" / f"drawn_{case}_0000.nii.gz")
        save(mr, raw / "imagesTr" / f"drawn_{case}_0001.nii.gz")
        save(labels, raw / "labelsTr" / f"drawn_{case}.nii.gz")
    description = {"channel_names": {"0": "CT", "1": "MRI"}, "labels": {"background": 0, "first": 1, "second": 2}, "numTraining": 4, "file_ending": ".nii.gz"}
    if REGIONS:
        description["channel_names"] = {"0": "T1", "1": "T2"}
        description["labels"] = {"background": 0, "both": [1, 2], "second": 2}
        description["regions_class_order"] = [1, 2]
    if TRANSPOSED:
        description["overwrite_image_reader_writer"] = "NibabelIOWithReorient"
    (raw / "dataset.json").write_text(json.dumps(description))

    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset, preprocess_dataset
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN

    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    extract_fingerprint_dataset(1, num_processes=1)
    plan_experiment_dataset(1)
    plans_file = work / "preprocessed" / NAME / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text())
    full = plans["configurations"]["3d_fullres"]
    full["patch_size"] = [8, 16, 16]
    full["batch_size"] = 2
    architecture = full["architecture"]["arch_kwargs"]
    architecture["n_stages"] = 3
    architecture["features_per_stage"] = [4, 6, 8]
    architecture["kernel_sizes"] = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    architecture["strides"] = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    architecture["n_conv_per_stage_decoder"] = [1, 1] if RESIDUAL else [2, 2]
    if RESIDUAL:
        full["architecture"]["network_class_name"] = full["architecture"]["network_class_name"].replace("PlainConvUNet", "ResidualEncoderUNet")
        del architecture["n_conv_per_stage"]
        architecture["n_blocks_per_stage"] = [1, 2, 2]
    else:
        architecture["n_conv_per_stage"] = [2, 2, 2]
    plans_file.write_text(json.dumps(plans, indent=1))
    preprocess_dataset(1, configurations=("3d_fullres",), num_processes=(1,))

    # The planner needs at least one; the trainer makes its patches by itself with none.
    os.environ["nnUNet_n_proc_DA"] = "0"
    arguments = dict(plans={**plans, "continue_training": False}, configuration="3d_fullres", fold="all", dataset_json=description, device=torch.device("cpu"))
    trainer = (nnUNetTrainerBN if BATCH else nnUNetTrainer)(**arguments)
    trainer.num_epochs = 1
    trainer.num_iterations_per_epoch = 2
    trainer.num_val_iterations_per_epoch = 1
    trainer.save_every = 10**9
    trainer.run_training()
    folder = pathlib.Path(trainer.output_folder).parent

    checkpoint_file = folder / "fold_all" / "checkpoint_final.pth"
    checkpoint = torch.load(checkpoint_file, map_location="cpu", weights_only=False)
    checkpoint["optimizer_state"] = None
    torch.save(checkpoint, checkpoint_file)
    shutil.copy(plans_file, folder / "plans.json")
    (folder / "dataset.json").write_text(json.dumps(description))

    OUT.mkdir(parents=True, exist_ok=True)
    images = work / "images"
    images.mkdir()
    drawn = draw(11, (41, 34, 6) if REGIONS else None)
    for channel in (0, 1):
        save(drawn[channel], images / f"image_{channel:04}.nii.gz")
        shutil.copy(images / f"image_{channel:04}.nii.gz", OUT)
    listed = [images / "image_0000.nii.gz", images / "image_0001.nii.gz"]
    # nnU-Net weighs and sums logits in 16 bits, which decides ties by rounding; the first two take 32.
    for name, mirroring, buffers in (("labels", False, torch.float32), ("mirrored", True, torch.float32), ("half", False, torch.half)):
        predict(folder, listed, work / name, mirroring, buffers)
        shutil.copy(work / f"{name}.nii.gz", OUT / f"{name}.nii.gz")
    shutil.copy(checkpoint_file, OUT)
    shutil.copy(folder / "plans.json", OUT)
    shutil.copy(folder / "dataset.json", OUT)


if __name__ == "__main__":
    if "resampled" in sys.argv[2:]:
        resampled()
    else:
        main()
