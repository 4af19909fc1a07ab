"""generation_config.json is checked by the build; `published_options` has the values' tests."""

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.sampling_defaults import read_sampling
from pocketlm.runtime_py.sampling import SamplingOptions


def test_a_bad_value_is_a_build_error_that_names_file_and_key() -> None:
    with pytest.raises(BuildError, match=r"generation_config\.json: top_p is 'high'; must be a n"):
        read_sampling({"do_sample": True, "top_p": "high"})


def test_settings_without_effect_are_noted() -> None:
    options, notes = read_sampling({"num_beams": 4, "typical_p": 1.0, "bad_words_ids": [[3]]})
    assert options == SamplingOptions()
    assert notes == ("generation_config.json: num_beams, bad_words_ids without effect here",)
    assert read_sampling({"num_beams": 1, "suppress_tokens": None})[1] == ()
