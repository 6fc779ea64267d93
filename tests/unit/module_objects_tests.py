# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the node: when they are refused, and when the node hears that they have died."""

import fake_node
import orthanc
from module_support import raises, wait_for


def stale_objects_are_refused_without_asking():
    output = fake_node.new("RestOutput", 11, False)
    instance = fake_node.new("DicomInstance", 12, False)
    assert instance.GetInstanceSize() == 42
    fake_node.take()
    fake_node.end(output)
    fake_node.end(instance)
    raises(ValueError, "Invalid object", output.AnswerBuffer, b"", "text/plain")
    raises(ValueError, "Invalid object", output.AnswerBuffer)
    raises(ValueError, "Invalid object", output.SendHttpStatus, 200, "abc", 3)
    raises(ValueError, "Invalid object", instance.GetInstanceSize)
    del output, instance
    owned = fake_node.new("Image", 17, True)
    del owned  # what is released with it, is released before it
    wait_for(lambda lines: lines == ["_Release(1) posted"])
    image = fake_node.new("Image", 13, False)
    fake_node.end(image)
    raises(ValueError, "Invalid object", orthanc.CreateDicom, "{}", image, 0)


def owned_objects_are_released_in_batches():
    images = [orthanc.CreateImage(1, 1, 1) for _ in range(50)]
    fake_node.take()
    del images
    lines = wait_for(lambda lines: any("_Release" in l for l in lines))
    assert sum(int(l[9:l.index(")")]) for l in lines) == 50, lines
    assert len(lines) <= 3, lines
    borrowed = fake_node.new("Image", 14, False)
    del borrowed
    owned = fake_node.new("Image", 15, True)
    fake_node.end(owned)
    del owned
    wait_for(lambda lines: lines == ["_Release(1) posted"])
    many = [fake_node.new("Image", i + 1, True) for i in range(5000)]
    del many
    total = wait_for(lambda lines: sum(int(l[9:l.index(")")]) for l in lines) == 5000)
    assert all(int(l[9:l.index(")")]) <= 1024 for l in total)


def objects_that_die_do_not_pile_up_in_the_node():
    """A loop is faster than any timer, and an image may have megabytes."""
    def loop():
        most = 0
        for _ in range(300):
            orthanc.CreateImage(1, 1, 1)
            most = max(most, fake_node.live())
        assert most <= 8, most
        fake_node.take()

    loop()
    fake_node.bound(loop)
