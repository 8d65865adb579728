"""Skeletons on images, what poses can become, and videos."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from posekit.data.images import DataError
from posekit.data.video import Video, VideoWriter, is_video, paths_of
from posekit.draw import draw
from posekit.layouts import COCO, CROWDPOSE, LEFT, MIDDLE, RIGHT, layout_of
from posekit.poses import Poses, Source
from posekit.saving import Saver

GREY = np.full((120, 160, 3), 90, np.uint8)


def person(x=80.0, y=60.0, score=0.9, k=17):
    """Everything at one place but the ankles, so that a line's ends are known."""
    points = np.full((1, k, 2), (x, y), np.float32)
    points[0, -1] += (30, 40)
    return Poses(points, np.ones((1, k), np.float32), np.array([score], np.float32))


def test_limbs_have_the_colour_of_their_side():
    for layout in (COCO, CROWDPOSE):
        for (a, b), ink in zip(layout.limbs, layout.limb_colours, strict=True):
            ends = {layout.colours[a], layout.colours[b]} - {MIDDLE}
            assert ink == (ends.pop() if len(ends) == 1 else MIDDLE)
        assert {LEFT, RIGHT, MIDDLE} <= set(layout.limb_colours)


def test_pixels_change_where_the_joints_are_and_nowhere_else():
    image = GREY.copy()
    shown = draw(image, person())
    assert (image == 90).all() and shown.dtype == np.uint8 and shown.shape == image.shape
    changed = (shown != 90).any(2)
    assert changed[59:61, 79:81].all() and changed[99:101, 109:111].any() and not changed[:40].any()
    assert not (draw(image, person(score=0.2)) != 90).any(), "below the threshold"
    assert (draw(image, person(score=0.2), threshold=0.1) != 90).any()


def test_the_centre_of_a_joint_is_where_coco_says():
    """A joint at (x, y) in COCO's pixels, borders counted, lies symmetrically around it."""
    one = Poses(np.full((1, 1, 2), (40.0, 40.0), np.float32), np.ones((1, 1), np.float32), np.ones(1, np.float32))
    changed = (draw(GREY, one) != 90).any(2)
    rows, columns = np.nonzero(changed)
    assert (rows + 0.5).mean() == pytest.approx(40, abs=0.1) and (columns + 0.5).mean() == pytest.approx(40, abs=0.1)


def test_joints_that_are_not_finite_or_hardly_visible_are_left_out():
    poses = person()
    poses.keypoints[0, :-1] = np.nan
    poses.keypoints[0, -1] = 1e30
    assert (draw(GREY, poses) == 90).all()
    poses = person()
    poses.visibility[:] = 0.2
    hollow, nothing = draw(GREY, poses), draw(GREY, poses, least=0.3)
    assert (nothing == 90).all() and (hollow != draw(GREY, person())).any()


def test_any_number_of_keypoints_and_nobody():
    for k in (0, 1, 5, 133):
        assert len(layout_of(k)) == k
        draw(
            GREY, person(k=k) if k else Poses.of_boxes(np.float32([[1, 2, 30, 40]]), np.ones(1, np.float32)), boxes=True
        )
    assert (draw(GREY, Poses.nobody(17)) == 90).all()


def test_poses_tell_and_tabulate_themselves():
    poses = person()
    assert repr(poses) == "<Poses: 1 person, 17 keypoints; scores: 0.90>"
    assert repr(Poses.nobody(14)) == "<Poses: 0 people, 14 keypoints; scores: ->"
    table = poses.to_frame()
    assert list(table.columns) == ["person", "score", "joint", "x", "y", "visibility"] and len(table) == 17
    assert table.joint.tolist() == list(COCO.keypoints) and table.x.tolist()[:16] == [80.0] * 16
    assert poses.to_frame(names=[f"p{i}" for i in range(17)]).joint[3] == "p3"
    assert len(Poses.nobody(17).to_frame()) == 0


def test_poses_know_their_image_and_pass_it_on(tmp_path):
    poses = person()
    with pytest.raises(ValueError, match="do not know their image"):
        poses.draw()
    assert "<img" not in poses._repr_html_() and "&lt;Poses" in poses._repr_html_()
    poses.source = Source("photo.jpg", lambda: GREY)
    assert (poses.draw() == draw(GREY, poses)).all() and "photo.jpg" in repr(poses)
    assert poses.select([0]).source is poses.source and 'src="data:image/jpeg' in poses._repr_html_()
    poses.source = Source("gone.jpg", lambda: (_ for _ in ()).throw(DataError("there is no image 'gone.jpg'")))
    assert "there is no image" in poses._repr_html_()


def test_poses_are_saved_as_rows_tables_and_images(tmp_path):
    poses = person()
    poses.source = Source("", lambda: GREY)
    rows = json.loads(poses.save(tmp_path / "a.json", image_id=7).read_text())
    assert rows[0]["image_id"] == 7 and len(rows[0]["keypoints"]) == 51
    assert len(pd.read_csv(poses.save(tmp_path / "a.csv"))) == 17
    assert cv2.imread(str(poses.save(tmp_path / "a.png"))).shape == (120, 160, 3)
    with pytest.raises(ValueError, match=r"saved as .json, .csv, .jpg or .png, not as 'a.xyz'"):
        poses.save(tmp_path / "a.xyz")


def test_supervision_tracks_them():
    import supervision

    poses = person()
    poses.keypoints[0] += np.random.default_rng(0).uniform(-20, 20, (17, 2)).astype(np.float32)
    made = poses.to_supervision()
    assert made.xy.shape == (1, 17, 2) and len(made.as_detections()) == 1
    assert isinstance(made, supervision.KeyPoints)
    assert len(Poses.nobody(17).to_supervision().as_detections()) == 0


def test_a_video_comes_back_frame_by_frame(tmp_path):
    frames = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(8)]
    writer = VideoWriter(tmp_path / "a.avi", fps=10)
    for frame in frames:
        writer.write(frame)
    with pytest.raises(ValueError, match="frames of a video have one size, and these have 64 x 48 and 10 x 10"):
        writer.write(np.zeros((10, 10, 3), np.uint8))
    writer.close()
    video = Video(tmp_path / "a.avi")
    read = list(video)
    assert video.frames == len(read) == 8 and video.fps == 10
    assert all(abs(float(one.mean()) - 20 * i) < 4 for i, one in enumerate(read))
    with pytest.raises(DataError, match=r"there is no video '.*b.avi'"):
        Video(tmp_path / "b.avi")
    (tmp_path / "c.mp4").write_text("no video")
    with pytest.raises(DataError, match="OpenCV knows no decoder"):
        Video(tmp_path / "c.mp4")
    with pytest.raises(ValueError, match="videos are written as .mp4, .* not as 'a.gif'"):
        VideoWriter(tmp_path / "a.gif")


def test_what_a_source_is(tmp_path):
    assert is_video(0) and is_video("film.MP4") and not is_video(True) and not is_video("a.jpg") and not is_video(None)
    for name in ("b.jpg", "a.jpg", "c.png"):
        cv2.imwrite(str(tmp_path / name), GREY)
    assert [path.name for path in paths_of(tmp_path)] == ["a.jpg", "b.jpg", "c.png"]
    assert [path[-5:] for path in paths_of(f"{tmp_path}/*.jpg")] == ["a.jpg", "b.jpg"]
    assert paths_of(f"{tmp_path}/*.gif") is None and paths_of(tmp_path / "a.jpg") is None and paths_of(GREY) is None


def test_a_saver_writes_what_pycocotools_and_posekit_read(tmp_path):
    from pycocotools.coco import COCO as Annotations

    from posekit.data import open_dataset

    saver = Saver(tmp_path / "out", coco=tmp_path / "images/poses.json", csv=tmp_path / "poses.csv")
    for name in ("a.jpg", "b.jpg"):
        poses = person()
        poses.keypoints[0] += np.random.default_rng(1).uniform(-20, 20, (17, 2)).astype(np.float32)
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), GREY)
        poses.source = Source(str(tmp_path / "images" / name), lambda: GREY)
        saver.add(poses)
    assert [path.name for path in saver.close()] == ["out", "poses.json", "poses.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg"]
    known = Annotations(str(tmp_path / "images/poses.json"))
    assert len(known.imgs) == len(known.anns) == 2 and known.anns[1]["score"] > 0
    data = open_dataset(tmp_path / "images", "train")
    assert len(data) == 2 and (data.target(0)["visibility"] == 2).all()
    assert len(pd.read_csv(tmp_path / "poses.csv")) == 34
