from partrm.viewer.request import Generation


def test_only_the_newest_request_is_wanted():
    generation = Generation()
    before = generation.current
    requests = [generation.next() for _ in range(3)]
    assert [request.outdated for request in requests] == [True, True, False]
    assert before.outdated
    assert not generation.current.outdated


def test_generations_do_not_outdate_each_other():
    previews, releases = Generation(), Generation()
    preview, release = previews.next(), releases.next()
    releases.next()
    assert release.outdated
    assert not preview.outdated
