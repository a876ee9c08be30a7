"""Small data sets with the structure of real ones: the names of their folders and files, and what their masks store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.labels import voc_palette

__all__ = ["QUESTIONS", "TREES", "Tree", "build"]

SIZE = (24, 36)

SPLIT: dict[str, int | tuple[str, int]] = {"train": 4, "val": 2}
VALID: dict[str, int | tuple[str, int]] = {"train": ("train", 4), "val": ("valid", 2)}


@dataclass(frozen=True)
class Tree:
    """Where image and mask number i of a split lie, and what masks store.

    In the patterns, `{i}` is the number with three digits, `{n}` without zeros, `{s}` the word for the split.

    Attributes:
        image: Pattern of the images.
        mask: Pattern of the masks.
        stores: What the mask stores for each class: numbers or colours.
        names: The class names; None for any.
        ids: The expected class id of each class of the picture; None for 0, 1, 2, ...
        splits: Images by split: a number, or the word in the path and a number. The split "" is not named: a fifth is
            held out.
        texts: Other files.
        others: Patterns of further files for each image: what is not read, with what it stores.
        palette: Whether masks have VOC's palette.
        layout: The layout's name.
    """

    image: str
    mask: str
    stores: Sequence[int | tuple[int, int, int]] = (0, 1, 2)
    names: tuple[str, ...] | None = None
    ids: tuple[int, ...] | None = None
    splits: dict[str, int | tuple[str, int]] = field(default_factory=lambda: {"": 10})
    texts: dict[str, str] = field(default_factory=dict)
    others: tuple[tuple[str, Sequence[int | tuple[int, int, int]]], ...] = ()
    palette: bool = False
    layout: str | None = None


def scene(seed: int, classes: int) -> tuple[UInt8, UInt8]:
    """Return a noisy picture and its classes: every one is there."""
    rng = np.random.default_rng(seed)
    classes_ = np.zeros(SIZE, np.uint8)
    for label in range(1, classes):
        top, left = int(rng.integers(0, SIZE[0] // 2)), 36 * (label - 1) // (classes - 1)
        classes_[top : top + 8, left : left + max(36 // (classes - 1), 1)] = label
    noise = rng.integers(0, 40, (*SIZE, 3))
    return (classes_[..., None] * 40 + noise).clip(0, 255).astype(np.uint8), classes_


def save(path: Path, pixels: UInt8, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
        return
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([value for color in voc_palette(256) for value in color])
    image.save(path)


def build(root: Path, tree: Tree) -> dict[Path, tuple[str, UInt8]]:
    """Write a tree. Returns the split and the expected label map by the image's path."""
    truth = {}
    ids = np.array(tree.ids or range(len(tree.stores)), np.uint8)
    for split, given in tree.splits.items():
        word, count = given if isinstance(given, tuple) else (split, given)
        for number in range(count):
            seed = number + 100 * (split == "val") + 200 * (split == "test")
            words = {"i": f"{seed:03d}", "n": str(seed), "s": word, "S": word.title()}
            pixels, classes = scene(seed, len(tree.stores))
            image = root / tree.image.format(**words)
            save(image, pixels)
            for pattern, stores in ((tree.mask, tree.stores), *tree.others):
                table = np.asarray(stores)
                kind = np.uint16 if table.max() > 255 else np.uint8
                colored = tree.palette and table.ndim == 1 and kind is np.uint8
                save(root / pattern.format(**words), table.astype(kind)[classes], colored)
            truth[image] = split, ids[classes]
    for name, text in tree.texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return truth


CSV = "Pixel Value, Class\n0, background\n1, red\n2, blue\n"
RED, BLUE, BLACK, WHITE = (200, 60, 50), (50, 80, 210), (0, 0, 0), (255, 255, 255)
TWO = ("background", "foreground")
DICT = "name,r,g,b\nbackground,0,0,0\nred,200,60,50\nblue,50,80,210\n"
NAMED = ("background", "red", "blue")
COLORS = (BLACK, RED, BLUE)

MAPILLARY = json.dumps(
    {
        "labels": [
            {"name": "animal--bird", "readable": "Bird", "color": [0, 0, 0], "evaluate": True},
            {"name": "construction--barrier--curb", "readable": "Curb", "color": [128, 0, 0], "evaluate": True},
            {"name": "construction--barrier--fence", "readable": "Fence", "color": [0, 128, 0], "evaluate": True},
        ]
    }
)
LABELME = {"class_names.txt": "_background_\nred\nblue"}
LABELME_NAMES = ("_background_", "red", "blue")
DUBAI = json.dumps(
    {
        "classes": [
            {"title": "background", "shape": "bitmap", "color": "#000000"},
            {"title": "red", "shape": "bitmap", "color": "#C83C32"},
            {"title": "blue", "shape": "bitmap", "color": "#3250D2"},
        ],
        "tags": [],
    }
)
TRAINING: dict[str, int | tuple[str, int]] = {"train": ("training", 4), "val": ("validation", 2)}
SPLIT3: dict[str, int | tuple[str, int]] = {"train": 4, "val": 2, "test": 1}

TREES: dict[str, Tree] = {
    "labelme2voc of 2019": Tree(
        "JPEGImages/{i}.jpg",
        "SegmentationClassPNG/{i}.png",
        palette=True,
        names=LABELME_NAMES,
        texts=LABELME,
        others=(("SegmentationClass/{i}.npy", (0, 1, 2)), ("SegmentationClassVisualization/{i}.jpg", COLORS)),
    ),
    "labelme2voc of 2024": Tree(
        "JPEGImages/{i}.jpg",
        "SegmentationClass/{i}.png",
        palette=True,
        names=LABELME_NAMES,
        texts=LABELME,
        others=(("SegmentationClassNpy/{i}.npy", (0, 1, 2)), ("SegmentationClassVisualization/{i}.jpg", COLORS)),
    ),
    "labelme2voc, instances": Tree(
        "JPEGImages/{i}.jpg",
        "SegmentationClass/{i}.png",
        palette=True,
        names=LABELME_NAMES,
        texts=LABELME,
        others=(
            ("SegmentationObject/{i}.png", (0, 2, 1)),
            ("SegmentationClassVisualization/{i}.jpg", COLORS),
            ("SegmentationObjectVisualization/{i}.jpg", COLORS),
        ),
    ),
    "Roboflow": Tree(
        "{s}/a{i}_jpg.rf.0abc.jpg",
        "{s}/a{i}_jpg.rf.0abc_mask.png",
        names=NAMED,
        splits=VALID,
        texts={
            "train/_classes.csv": CSV,
            "valid/_classes.csv": CSV,
            "README.dataset.txt": "x",
            "README.roboflow.txt": "y",
        },
    ),
    "mmsegmentation": Tree(
        "data/my/img_dir/{s}/{i}.png",
        "data/my/ann_dir/{s}/{i}_labelTrainIds.png",
        (0, 1, 255),
        ids=(0, 1, 255),
        splits=SPLIT,
    ),
    "mmsegmentation, Potsdam": Tree(
        "img_dir/{s}/2_{n}_0_0_512_512.png", "ann_dir/{s}/2_{n}_0_0_512_512.png", splits=SPLIT
    ),
    "mmsegmentation, iSAID": Tree(
        "img_dir/{s}/P{i}_0_896.png", "ann_dir/{s}/P{i}_0_896_instance_color_RGB.png", splits=SPLIT
    ),
    "Mapillary Vistas 1.2": Tree(
        "{s}/images/{i}.jpg",
        "{s}/labels/{i}.png",
        names=("Bird", "Curb", "Fence"),
        splits=TRAINING,
        texts={"config.json": MAPILLARY},
        others=(("{s}/instances/{i}.png", (0, 256, 513)), ("{s}/panoptic/{i}.png", (BLACK, (1, 0, 0), (2, 0, 0)))),
        palette=True,
    ),
    "Mapillary Vistas 2.0": Tree(
        "{s}/images/{i}.jpg",
        "{s}/v2.0/labels/{i}.png",
        names=("Bird", "Curb", "Fence"),
        splits=TRAINING,
        texts={"config_v2.0.json": MAPILLARY},
        others=(
            ("{s}/v2.0/instances/{i}.png", (0, 256, 513)),
            ("{s}/v2.0/panoptic/{i}.png", (BLACK, (1, 0, 0), (2, 0, 0))),
        ),
        palette=True,
    ),
    "CamVid of Kaggle": Tree(
        "CamVid/{s}/0001TP_{i}.png",
        "CamVid/{s}_labels/0001TP_{i}_L.png",
        COLORS,
        names=NAMED,
        splits=SPLIT3,
        texts={"CamVid/class_dict.csv": DICT},
    ),
    "CamVid of fastai": Tree(
        "images/0001TP_{i}.png",
        "labels/0001TP_{i}_P.png",
        names=("Animal", "Archway", "Bicyclist"),
        texts={"codes.txt": "Animal\nArchway\nBicyclist"},
    ),
    "CamVid's own": Tree(
        "701_StillsRaw_full/0001TP_{i}.png",
        "LabeledApproved_full/0001TP_{i}_L.png",
        COLORS,
        names=NAMED,
        texts={"label_colors.txt": "0 0 0\tbackground\n200 60 50\tred\n50 80 210\t\tblue\n"},
    ),
    "DeepGlobe": Tree(
        "train/{n}_sat.jpg",
        "train/{n}_mask.png",
        COLORS,
        names=NAMED,
        texts={
            "class_dict.csv": DICT,
            "metadata.csv": "image_id,split,sat_image_path,mask_path\n1,train,train/1_sat.jpg,train/1_mask.png\n",
        },
    ),
    "Semantic Drone": Tree(
        "dataset/semantic_drone_dataset/original_images/{i}.jpg",
        "dataset/semantic_drone_dataset/label_images_semantic/{i}.png",
        names=NAMED,
        others=(("RGB_color_image_masks/RGB_color_image_masks/{i}.png", COLORS),),
        texts={"class_dict_seg.csv": DICT.replace(",", ", ")},
    ),
    "aerial tiles of Dubai": Tree(
        "Tile 1/images/image_part_{i}.jpg",
        "Tile 1/masks/image_part_{i}.png",
        COLORS,
        names=NAMED,
        texts={"classes.json": DUBAI},
    ),
    "Massachusetts buildings": Tree(
        "tiff/{s}/{n}_15.tiff",
        "tiff/{s}_labels/{n}_15.tif",
        (BLACK, WHITE),
        names=("background", "building"),
        splits=SPLIT,
        texts={"label_class_dict.csv": "name,r,g,b\nbackground,0,0,0\nbuilding,255,255,255\n"},
    ),
    "Oxford pets": Tree(
        "images/Abyssinian_{n}.jpg",
        "annotations/trimaps/Abyssinian_{n}.png",
        (1, 2, 3),
        texts={
            "annotations/list.txt": "#Image CLASS-ID\nAbyssinian_1 1\n",
            "annotations/README": "x",
            "annotations/trimaps/._Abyssinian_1.png": "x",
        },
    ),
    "Carvana": Tree(
        "train/abc_{i}.jpg",
        "train_masks/abc_{i}_mask.gif",
        (0, 1),
        texts={"train_masks.csv": "img,rle_mask\nabc_000.jpg,1 2\n"},
    ),
    "ISIC 2018": Tree(
        "ISIC2018_Task1-2_{s}_Input/ISIC_0000{i}.jpg",
        "ISIC2018_Task1_{s}_GroundTruth/ISIC_0000{i}_segmentation.png",
        (0, 255),
        names=TWO,
        splits={"train": ("Training", 4), "val": ("Validation", 2)},
        texts={"ISIC2018_Task1-2_Training_Input/LICENSE.txt": "x"},
    ),
    "CVC-ClinicDB": Tree("Original/{n}.tif", "Ground Truth/{n}.tif", (0, 255), names=TWO),
    "Inria": Tree(
        "AerialImageDataset/train/images/austin{n}.tif",
        "AerialImageDataset/train/gt/austin{n}.tif",
        (0, 255),
        names=TWO,
    ),
    "WHU buildings": Tree("{s}/Image/{n}.tif", "{s}/label/{n}.tif", (0, 255), names=TWO, splits=SPLIT3),
    "LoveDA": Tree(
        "LoveDA/{S}/Urban/images_png/{n}.png", "LoveDA/{S}/Urban/masks_png/{n}.png", (1, 2, 3), splits=SPLIT
    ),
    "Potsdam": Tree(
        "2_Ortho_RGB/top_potsdam_2_{n}_RGB.tif",
        "5_Labels_all/top_potsdam_2_{n}_label.tif",
        (WHITE, (255, 0, 0), (0, 0, 255)),
    ),
    "Vaihingen": Tree(
        "top/top_mosaic_09cm_area{n}.tif",
        "gts_for_participants/top_mosaic_09cm_area{n}.tif",
        ((0, 0, 255), (255, 0, 0), (0, 255, 255)),
    ),
    "DeepCrack": Tree("{s}_img/11{i}.jpg", "{s}_lab/11{i}.png", (0, 255), names=TWO, splits={"train": 4, "test": 2}),
    "TGS salt": Tree(
        "train/images/0a{i}.png",
        "train/masks/0a{i}.png",
        (0, 65535),
        names=TWO,
        texts={"train.csv": "id,rle_mask\n0a000,1 2\n", "depths.csv": "id,z\n0a000,3\n"},
    ),
    "ultrasound nerves": Tree("train/1_{n}.tif", "train/1_{n}_mask.tif", (0, 255), names=TWO),
    "brain MRI": Tree(
        "kaggle_3m/TCGA_CS_{n}/TCGA_CS_{n}_1.tif",
        "kaggle_3m/TCGA_CS_{n}/TCGA_CS_{n}_1_mask.tif",
        (0, 255),
        names=TWO,
        texts={"kaggle_3m/data.csv": "Patient,RNASeqCluster\nTCGA,2\n", "kaggle_3m/README.md": "x"},
    ),
    "breast ultrasound": Tree(
        "Dataset_BUSI_with_GT/benign/benign ({n}).png",
        "Dataset_BUSI_with_GT/benign/benign ({n})_mask.png",
        (0, 255),
        names=TWO,
    ),
    "UAVid": Tree(
        "uavid_{s}/seq{n}/Images/000000.png",
        "uavid_{s}/seq{n}/Labels/000000.png",
        (BLACK, (128, 0, 0), (128, 64, 128)),
        splits=SPLIT,
    ),
    "FloodNet": Tree("{s}/{s}-org-img/{n}.jpg", "{s}/{s}-label-img/{n}_lab.png", splits=SPLIT),
    "RUGD": Tree(
        "RUGD_frames-with-annotations/creek/creek_{i}.png",
        "RUGD_annotations/creek/creek_{i}.png",
        COLORS,
        names=NAMED,
        texts={
            "RUGD_annotations/RUGD_annotation-colormap.txt": "0 background 0 0 0\n1 red 200 60 50\n2 blue 50 80 210\n"
        },
    ),
    "BDD100K of 2018": Tree(
        "bdd100k/seg/images/{s}/a-{i}.jpg",
        "bdd100k/seg/labels/{s}/a-{i}_train_id.png",
        (0, 1, 255),
        ids=(0, 1, 255),
        splits=SPLIT,
        others=(("bdd100k/seg/color_labels/{s}/a-{i}_train_color.png", (BLACK, RED, BLUE)),),
    ),
    "BDD100K": Tree(
        "bdd100k/images/10k/{s}/a-{i}.jpg",
        "bdd100k/labels/sem_seg/masks/{s}/a-{i}.png",
        (0, 1, 255),
        ids=(0, 1, 255),
        splits=SPLIT,
        others=(("bdd100k/labels/sem_seg/colormaps/{s}/a-{i}.png", (BLACK, RED, BLUE)),),
    ),
    "CARLA of Lyft": Tree("Train/CameraRGB/{n}.png", "Train/CameraSeg/{n}.png", (BLACK, (1, 0, 0), (2, 0, 0))),
    "portraits": Tree("images_data_crop/{i}.jpg", "images_mask/{i}_mask.png", (0, 255), names=TWO),
    "LIP": Tree("{s}_images/{i}.jpg", "{s}_segmentations/{i}.png", splits=SPLIT),
    "SUIM": Tree("train_val/images/d_r_{n}_.jpg", "train_val/masks/d_r_{n}_.bmp", (BLACK, BLUE, RED)),
    "plant phenotyping": Tree("A1/ara2012_plant{i}_rgb.png", "A1/ara2012_plant{i}_label.png", (0, 1)),
    "Kolektor 2": Tree("train/1{i}.png", "train/1{i}_GT.png", (0, 255), names=TWO),
    "Kolektor": Tree("kos{n}/Part0.jpg", "kos{n}/Part0_label.bmp", (0, 255), names=TWO),
    "Segmentation of people": Tree(
        "supervisely_person/images/ds1_{n}.png", "supervisely_person/masks/ds1_{n}.png", (0, 255), names=TWO
    ),
    "Crack500": Tree("traincrop/2016_{i}.jpg", "traincrop/2016_{i}.png", (0, 255), names=TWO),
    "Pascal context of mmsegmentation": Tree(
        "VOCx/JPEGImages/2008_{i}.jpg", "VOCx/SegmentationClassContext/2008_{i}.png"
    ),
    "VOC's folders without lists": Tree("JPEGImages/{i}.jpg", "SegmentationClass/{i}.png", palette=True),
    "VOC's folders without lists, colours": Tree(
        "JPEGImages/{i}.jpg", "SegmentationClass/{i}.png", COLORS, names=NAMED, texts={"class_dict.csv": DICT}
    ),
    "Cityscapes of one folder": Tree("{s}/a_{i}_leftImg8bit.png", "{s}/a_{i}_gtFine_labelIds.png", splits=SPLIT),
    "Keras U-Net": Tree("data/membrane/train/image/{n}.png", "data/membrane/train/label/{n}.png", (0, 255), names=TWO),
    "split at the end": Tree("dataset/images/{s}2017/{i}.jpg", "dataset/annotations/{s}2017/{i}.png", splits=SPLIT),
    "names in capitals": Tree("DATA/IMAGES/{i}.JPG", "DATA/MASKS/{i}.PNG", (0, 255), names=TWO),
    "LabelMe tools' seg": Tree("Images/img{n}.jpg", "Masks/img{n}.png", (0, 255), names=TWO),
    "depth next to labels": Tree("rgb/{i}.png", "label/{i}.png", others=(("depth/{i}.png", (300, 500, 700)),)),
    "NYU by split": Tree(
        "nyu_{s}_rgb/{i}.png",
        "{s}_labels_13/{i}.png",
        splits=SPLIT,
        others=(("nyu_{s}_depth/{i}.png", (300, 500, 700)),),
    ),
    "CVC-ClinicDB, PNG and TIF": Tree(
        "PNG/Original/{n}.png",
        "PNG/Ground Truth/{n}.png",
        (0, 255),
        names=TWO,
        others=(("TIF/Ground Truth/{n}.tif", (0, 255)), ("TIF/Original/{n}.tif", (BLACK, RED))),
    ),
    "Cityscapes of one folder, with colours": Tree(
        "{s}/a_{i}_leftImg8bit.png",
        "{s}/a_{i}_gtFine_labelIds.png",
        splits=SPLIT,
        others=(("{s}/a_{i}_gtFine_color.png", COLORS), ("{s}/a_{i}_gtFine_instanceIds.png", (0, 300, 400))),
    ),
    "overlays in one folder": Tree(
        "data/{i}.jpg", "data/{i}_mask.png", (0, 255), names=TWO, others=(("data/{i}_overlay.png", (BLACK, RED)),)
    ),
    "predictions in one folder": Tree(
        "data/{i}.jpg", "data/{i}_mask.png", (0, 255), names=TWO, others=(("data/{i}_pred.png", (255, 0)),)
    ),
    "predictions in a folder": Tree("imgs/{i}.jpg", "labels/{i}.png", others=(("predictions/{i}.png", (2, 1, 0)),)),
    "overlays in a folder": Tree("imgs/{i}.jpg", "labels/{i}.png", others=(("overlays/{i}.jpg", COLORS),)),
    "colours in a folder": Tree("imgs/{i}.jpg", "annotations/{i}.png", others=(("annotations_color/{i}.png", COLORS),)),
    "DAGM": Tree("Class1/Train/0{i}.PNG", "Class1/Train/Label/0{i}_label.PNG", (0, 255), names=TWO),
    "magnetic tiles": Tree("MT_Blowhole/Imgs/exp1_{n}.jpg", "MT_Blowhole/Imgs/exp1_{n}.png", (0, 255), names=TWO),
}

QUESTIONS: dict[str, tuple[Tree, str]] = {
    "DRIVE": (
        Tree(
            "{s}/images/{i}_training.tif",
            "{s}/1st_manual/{i}_manual1.gif",
            (0, 255),
            splits={"train": ("training", 4), "test": ("test", 2)},
            others=(("{s}/mask/{i}_training_mask.gif", (255, 0)),),
        ),
        "*/mask",
    ),
    "HRF": (
        Tree(
            "images/{i}_dr.JPG", "manual1/{i}_dr.tif", (0, 255), names=TWO, others=(("mask/{i}_dr_mask.tif", (255, 0)),)
        ),
        "mask",
    ),
    "two raters": (
        Tree("images/{i}.png", "manual1/{i}.png", (0, 255), names=TWO, others=(("manual2/{i}.png", (255, 0)),)),
        "manual2",
    ),
    "two words": (Tree("img/{i}.png", "gt/{i}.png", others=(("labels/{i}.png", (2, 1, 0)),)), "labels"),
}
"""Trees in which two folders may hold the labels, with the pattern of the folder that is not meant."""
