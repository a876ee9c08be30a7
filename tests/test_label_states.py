"""The states of the page of `fullconv label`: nothing, little, much, slow, wrong."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from label_fake import TOKEN, Fake, Picture, draw_scene, draw_scenes
from label_tab import Tab, wait_until
from label_tab import open_fake as page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = "<img src=x onerror=alert(1)>\"'&"
NETWORK = "Failed to load resource"


def test_an_empty_folder_says_what_to_do(browser: Browser) -> None:
    with page(browser, Fake([], ())) as tab:
        tab.open()
        tab.wait_for_text("message", "There are no images in this folder.")
        tab.press("n", "u", "z", "Shift+A", "Enter", "w", "+")


@pytest.mark.parametrize(
    ("token", "says"), [("", "This address is not complete."), ("old", "This address is no longer valid.")]
)
def test_an_address_without_its_token_says_so(browser: Browser, token: str, says: str) -> None:
    with page(browser, Fake(draw_scenes(1))) as tab:
        tab.expected.append(NETWORK)
        tab.open(token=token)
        tab.wait_for_text("message", says)


def test_a_list_that_cannot_be_read_can_be_tried_again(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    fake.mood["/api/images"] = (409, "The folder is locked.")
    with page(browser, fake) as tab:
        tab.expected.append(NETWORK)
        tab.open()
        tab.wait_for_text("problems", "The folder is locked.")
        tab.wait_for_text("message", "The images could not be opened.")
        fake.mood.clear()
        tab.page.get_by_role("button", name="Try again").click()
        tab.page.wait_for_selector("#message", state="hidden")
        assert tab.page.locator(".problem").count() == 0


def test_a_slow_list_and_slow_tiles_are_waited_for(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    listed, shown = threading.Event(), threading.Event()
    fake.mood |= {"/api/images/p0/photo": shown, "/api/project": listed}
    with page(browser, fake) as tab:
        tab.open()
        tab.wait_for_text("message", "Opening the images")
        listed.set()
        tab.page.wait_for_selector("#message", state="hidden")
        tab.page.wait_for_selector("#busy", state="visible")
        shown.set()
        tab.page.wait_for_selector("#busy", state="hidden")
        wait_until(lambda: len(np.unique(tab.pixels())) > 50, "the photo")


def test_a_damaged_image_shows_its_sentence_and_others_open(browser: Browser) -> None:
    pictures = draw_scenes(2)
    pictures[0].error = "/some/folder/scene_000.jpg: the file is damaged; restore it from a copy"
    with page(browser, Fake(pictures)) as tab:
        tab.open()
        tab.wait_for_text("message", "scene_000.jpg cannot be opened.")
        assert "scene_000.jpg: the file is damaged; restore it from a copy." in tab.text("message")
        assert "folder" not in tab.text("message") + tab.text("image-list")
        tab.press("PageDown")
        tab.page.wait_for_selector("#message", state="hidden")


def test_an_image_of_unknown_size_opens_once_it_is_known(browser: Browser) -> None:
    pictures = draw_scenes(1)
    pictures[0].hidden_size = True
    fake = Fake(pictures)
    shown = threading.Event()
    fake.mood["/photo/0"] = shown
    with page(browser, fake) as tab:
        tab.open()
        tab.wait_for_text("message", "Opening scene_000.jpg")
        shown.set()
        tab.page.wait_for_selector("#message", state="hidden")


def test_missing_tiles_can_be_tried_again(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    fake.mood["/photo"] = (404, "It is not here.")
    with page(browser, fake) as tab:
        tab.expected.append(NETWORK)
        tab.open()
        tab.wait_for_text("problems", "A part of the image is missing.")
        fake.mood.clear()
        tab.page.get_by_role("button", name="Try again").click()
        wait_until(lambda: len(np.unique(tab.pixels())) > 50, "the photo")
        assert tab.page.locator(".problem").count() == 0


def test_strokes_wait_for_a_lost_connection_and_arrive_in_order(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        tab.expected.append(NETWORK)
        tab.open("scene")
        tab.page.context.set_offline(True)
        fake.hang_up()
        tab.wait_for_text("problems", "The connection to the server is lost.")
        for key, y in (("1", 0.4), ("2", 0.5), ("3", 0.6)):
            tab.press(key)
            tab.paint(tab.at(0.4, y), tab.at(0.6, y))
        tab.press("z", "2")
        tab.paint(tab.at(0.4, 0.62), tab.at(0.6, 0.62))
        assert tab.text("saved") == "Not connected, 5 not saved"
        drawn = tab.pixels().astype(int)
        assert np.abs(drawn - [0x56, 0xB4, 0xE9]).max(-1).min() < 60
        assert fake.requests == []
        tab.page.context.set_offline(False)
        tab.page.get_by_role("button", name="Try again").click()
        tab.settle()
        assert [stroke["class"] for _, stroke in fake.requests] == [0, 1, 2, 1]
        assert set(np.unique(fake.pictures["p0"].mask)) == {0, 1, 255}
        assert tab.page.locator(".problem").count() == 0


def test_a_refused_stroke_is_kept_until_it_is_discarded(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        tab.expected.append(NETWORK)
        tab.open("scene")
        fake.mood["/strokes"] = (409, "the class was deleted")
        tab.paint(tab.at(0.4, 0.4), tab.at(0.6, 0.4))
        tab.wait_for_text("problems", "The class was deleted.")
        tab.page.get_by_role("button", name="Try again").click()
        tab.wait_for_text("problems", "The class was deleted.")
        assert tab.text("saved") == "Saving …"
        tab.page.get_by_role("button", name="Discard this change").click()
        tab.settle()
        fake.mood.clear()
        tab.paint(tab.at(0.4, 0.5), tab.at(0.6, 0.5))
        tab.settle()
        assert len(fake.requests) == 1


def test_a_busy_server_gets_the_stroke_again_without_a_click(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        tab.expected.append(NETWORK)
        tab.open("scene")
        fake.mood["/strokes"] = (503, "The disk is busy.")
        tab.paint(tab.at(0.4, 0.4), tab.at(0.6, 0.4))
        wait_until(lambda: "1 change waits here" in tab.text("problems"), "the sentence")
        fake.mood.clear()
        tab.settle()
        assert len(fake.requests) == 1
        assert tab.page.locator(".problem").count() == 0


@pytest.mark.parametrize(("status", "offered"), [(500, True), (507, False)])
def test_a_change_that_fails_for_good_can_be_discarded(browser: Browser, status: int, offered: bool) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        tab.expected.append(NETWORK)
        tab.open("scene")
        fake.mood["/strokes"] = (status, "It failed.")
        tab.paint(tab.at(0.4, 0.4), tab.at(0.6, 0.4))
        wait_until(lambda: "1 change waits here" in tab.text("problems"), "the sentence")
        discard = tab.page.get_by_role("button", name="Discard this change")
        assert discard.count() == offered
        if offered:
            discard.click()
            tab.settle()
        fake.mood.clear()
        tab.paint(tab.at(0.4, 0.5), tab.at(0.6, 0.5))
        tab.settle()
        assert len(fake.requests) == 2 - offered


def paint_with_an_old_token(tab: Tab) -> None:
    """Leave a stroke that waits, because the address in the tab is no longer valid."""
    tab.expected.append(NETWORK)
    tab.open("scene")
    tab.page.evaluate("location.hash = 'token=old'")
    tab.paint(tab.at(0.4, 0.4), tab.at(0.6, 0.4))
    tab.wait_for_text("problems", "This server needs its token")


def test_an_address_of_another_folder_gets_nothing_of_what_waits(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        paint_with_an_old_token(tab)
        fake.session = "another"
        with tab.page.expect_event("dialog") as refused:
            tab.page.evaluate(f"location.hash = 'token={TOKEN}'")
        refused.value.dismiss()
        wait_until(lambda: tab.page.evaluate("location.hash") == "#token=old", "the address before")
        assert tab.text("saved") == "Saving …"
        with tab.page.expect_event("load"):
            with tab.page.expect_event("dialog") as question:
                tab.page.evaluate(f"location.hash = 'token={TOKEN}'")
            assert question.value.message.endswith("another folder. Discard 1 change of the folder before?")
            question.value.accept()
        tab.page.wait_for_selector("#message", state="hidden")
        tab.settle()
        assert fake.requests == []
        fake.session = "a third one"
        tab.page.evaluate("location.hash = 'token=old'")
        tab.wait_for_text("problems", "This server needs its token")
        with tab.page.expect_event("load"):
            tab.page.evaluate(f"location.hash = 'token={TOKEN}'")


def test_a_new_address_in_an_open_tab_sends_what_waits(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        paint_with_an_old_token(tab)
        fake.hang_up()
        tab.wait_for_text("message", "This address is no longer valid.")
        assert fake.requests == []
        tab.page.evaluate(f"location.hash = 'token={TOKEN}'")
        tab.page.wait_for_selector("#message", state="hidden")
        tab.settle()
        assert len(fake.requests) == 1
        assert tab.page.locator(".problem").count() == 0


def test_without_a_model_no_earlier_prediction_is_shown(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        tab.open("scene")
        before = tab.pixels()
        fake.pictures["p0"].mask[:20] = 0
        fake.pictures["p0"].mask[-20:] = 1
        fake.learned()
        tab.wait_for_text("model", "Model 1")
        wait_until(lambda: bool((tab.pixels() != before).any()), "the prediction")
        fake.version = 0
        fake.send("model", version=0, seconds=0.1)
        tab.wait_for_text("model", "No model yet")
        tab.settle()
        assert (tab.pixels() == before).all()
        tab.page.mouse.move(*tab.at(0.5, 0.5))
        wait_until(lambda: tab.text("pixel") != "", "the pixel under the pointer")
        assert "predicted" not in tab.text("pixel")


def test_a_list_of_500_images_is_searched_and_walked_with_keys(browser: Browser) -> None:
    fake = Fake([Picture(np.full((40, 60, 3), seed % 256, np.uint8), f"photo_{seed:03d}.png") for seed in range(500)])
    with page(browser, fake) as tab:
        tab.open("photo_000")
        assert tab.text("image-count") == "500 images, 0 started"
        tab.press("PageDown", "PageDown", "PageUp")
        assert tab.text("image-name") == "photo_001.png"
        tab.press("n")
        assert tab.text("image-name") == "photo_003.png"
        tab.press("Shift+N")
        assert tab.text("image-name") == "photo_001.png"
        tab.press("l", "End", "Enter")
        assert tab.text("image-name") == "photo_499.png"
        asked = tab.page.locator("#image-list li[data-thumbnail]")
        wait_until(lambda: asked.count() > 0, "a thumbnail")
        assert asked.count() < 60
        tab.page.fill("#image-search", "_25")
        assert tab.text("image-count") == "10 of 500 images, 0 started"
        assert tab.page.locator("#image-list li").count() == 10


def test_names_with_markup_are_text(browser: Browser) -> None:
    pictures = [Picture(draw_scene(200, 100), EVIL), Picture(draw_scene(200, 100), "b.png", error=EVIL)]
    with page(browser, Fake(pictures, (EVIL, "b"))) as tab:
        tab.open(EVIL)
        assert tab.page.locator("#image-list .name").first.inner_text() == EVIL
        assert tab.page.locator("#class-list .name").first.inner_text() == EVIL
        tab.press("PageDown")
        tab.wait_for_text("message", "b.png cannot be opened.")
        assert tab.page.locator("#canvas ~ * img, #images img, #panel img").count() == 0


def test_training_starts_shows_scores_and_is_cancelled(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    with page(browser, fake) as tab:
        tab.open("scene")
        tab.press("t")
        tab.wait_for_text("train-message", "Epoch 1 of 20")
        assert tab.page.locator("#train-progress").get_attribute("value") == "0.05"
        tab.page.click("#train-cancel")
        tab.wait_for_text("train-message", "The training was cancelled.")
        tab.page.click("#train-start")
        tab.wait_for_text("train-message", "Epoch")
        scores = {"mean_iou": 0.5, "classes": {"sky": 0.75, EVIL: None}}
        fake.send(
            "training", **fake.training | {"state": "done", "message": "The new model is in use.", "scores": scores}
        )
        tab.wait_for_text("train-message", "The new model is in use.")
        rows = tab.page.locator("#train-scores tbody tr").all_inner_texts()
        assert rows == ["mIoU\t50.0 %", "sky\t75.0 %", f"{EVIL}\t–"]


def test_without_pytorch_the_page_names_the_command(browser: Browser) -> None:
    fake = Fake(draw_scenes(1))
    command = "pip install 'fullconv[train]'"
    fake.help = f"torch is not installed. Run: {command}"
    with page(browser, fake) as tab:
        tab.open("scene")
        assert tab.text("train-command") == command
        assert not tab.page.locator("#train-start").is_visible()


def test_uncertain_places_are_shown_one_after_the_other(browser: Browser) -> None:
    fake = Fake(draw_scenes(1, 3000, 2000))
    with page(browser, fake) as tab:
        tab.open("scene")
        tab.press("u")
        tab.wait_for_text("toast", "There is no prediction yet.")
        fake.pictures["p0"].mask[:20] = 0
        fake.pictures["p0"].mask[-20:] = 1
        fake.learned()
        tab.wait_for_text("model", "Model 1")
        for text in (
            "Uncertain place; 2 more.",
            "Uncertain place; 1 more.",
            "The last uncertain place.",
            "All uncertain",
        ):
            tab.press("u")
            tab.wait_for_text("toast", text)
        assert float(tab.text("zoom").removesuffix(" %")) > 100
