"""The faults: wrong signs, borders that are off by one, dropped remainders, skipped precautions."""

from tests.mutations.applying import Mutation

KERNELS = (
    Mutation(
        file="kernels/moments.py",
        old="squares = buffer[_SQUARES + c] - off * buffer[_SUM + c]",
        new="squares = buffer[_SQUARES + c] + off * buffer[_SUM + c]",
        breaks="squared deviations are corrected with the wrong sign",
        tests=("kernels/test_moments.py::test_each_column_and_whole_rows",),
    ),
    Mutation(
        file="kernels/moments.py",
        old="n_here = n if piece < n_pieces else more",
        new="n_here = n if piece < n_pieces else _U(0)",
        breaks="what is left over behind the last whole piece of a row is dropped",
        tests=("kernels/test_moments.py::test_each_column_and_whole_rows",),
    ),
    Mutation(
        file="kernels/moments.py",
        old="d = x - buffer[_SHIFT + c] if finite else 0.0",
        new="d = x - buffer[_SHIFT + c]",
        breaks="NaN gets into sums of finite values",
        tests=("kernels/test_moments.py::test_a_first_value_that_is_unlike_the_others",),
    ),
    Mutation(
        file="kernels/moments.py",
        old="for sweep in range(2):\n                at = begin",
        new="for sweep in range(1):\n                at = begin",
        breaks="the second look, about the mean, is never taken where the first value was far off",
        tests=("kernels/test_moments.py::test_a_first_value_that_is_unlike_the_others",),
    ),
    Mutation(
        file="ops/moments.py",
        old="if rest := len(values) % beside:",
        new="if rest := 0:",
        breaks="the rows that don't fill a stride of narrow blocks are dropped",
        tests=("ops/test_moments.py::test_narrow_blocks_lose_no_row_that_fills_no_stride",),
    ),
    Mutation(
        file="ops/moments.py",
        old="apart = (squares + n * (gaps - off) ** 2).sum(axis=0)",
        new="apart = squares.sum(axis=0)",
        breaks="how far blocks' means lie apart is left out of the variance of all",
        tests=("ops/test_moments.py::test_merging_is_associative_and_equals_one_look_at_all",),
    ),
    Mutation(
        file="kernels/softmax.py",
        old="d = max(_LEAST, np.float64(tile[c]) - largest)",
        new="d = max(_LEAST, np.float64(tile[c]))",
        breaks="the largest logit isn't subtracted before exponentials are taken",
        tests=("kernels/test_softmax.py::test_rows_of_any_length",),
    ),
    Mutation(
        file="kernels/softmax.py",
        old="for i in run[4 * n :]:",
        new="for i in run[4 * n + 1 :]:",
        breaks="the first of a run's values that make no four is dropped",
        tests=("kernels/test_softmax.py::test_rows_of_any_length",),
    ),
    Mutation(
        file="kernels/softmax.py",
        old="n += of(_key(before[c], rest)) >= key",
        new="n += of(_key(before[c], rest)) > key",
        breaks="of equal logits the later one has the same rank",
        tests=("kernels/test_softmax.py::test_rows_of_equal_values",),
    ),
    Mutation(
        file="kernels/screening.py",
        old="last = min(first + step, n_vectors)",
        new="last = min(first + step, n_vectors - _ONE)",
        breaks="the last vector of a block isn't looked at",
        tests=("kernels/test_screening.py::test_any_payload_of_nan",),
    ),
    Mutation(
        file="kernels/segments.py",
        old="at += mine",
        new="at += n",
        breaks="what is cut off of a long sequence begins the next one",
        tests=("kernels/test_segments.py::test_rows_are_filled_up_with_zeros",),
    ),
    Mutation(
        file="kernels/ordered.py",
        old="for rest in range(n // _FOUR * _FOUR, n):\n        i, total = _U(rest), 0.0\n"
        "        for feature in range(n_features):\n            total = _apart",
        new="for rest in range(n // _FOUR * _FOUR, n - 1):\n        i, total = _U(rest), 0.0\n"
        "        for feature in range(n_features):\n            total = _apart",
        breaks="the last pair that makes no four isn't measured",
        tests=("kernels/test_ordered.py",),
    ),
    Mutation(
        file="kernels/ranking.py",
        old="if key > greatest or (key == greatest and named >= ids[query, last]):",
        new="if key >= greatest:",
        breaks="of neighbors at the same distance the one found first wins, not the lower row",
        tests=(
            "kernels/test_ranking.py::test_of_equal_keys_the_lower_ids_stay_whatever_comes_first",
        ),
    ),
    Mutation(
        file="kernels/nearest.py",
        old="scratch[i] = numbers[i] - (own * slack[row, 0] + other * slack[row, 1] + blur)",
        new="scratch[i] = numbers[i]",
        breaks="candidates are dropped by numbers whose error isn't taken off",
        tests=("kernels/test_nearest.py::test_no_candidate_is_lost",),
    ),
    Mutation(
        file="kernels/nearest.py",
        old="for group in range((n_rows + _ROWS - _ONE) // _ROWS):",
        new="for group in range(n_rows // _ROWS):",
        breaks="base vectors that don't fill a group are never candidates",
        tests=("kernels/test_nearest.py::test_no_candidate_is_lost",),
    ),
    Mutation(
        file="ops/products.py",
        old="one = (n_features + _BESIDE + 6) * unit + (n_features + 8) * 2.0**-47",
        new="one = 0.01 * unit",
        breaks="the bound on the error of products is below the error",
        tests=("ops/test_products.py::test_numbers_and_their_slack",),
    ),
    Mutation(
        file="ops/measured.py",
        old="owners = places // max(panel.width, 1)",
        new="owners = places % max(panel.width, 1)",
        breaks="pairs are measured with another query's vector",
        tests=("ops/test_measured.py::test_sums_are_exact_for_all_blocks_panels_and_pieces",),
    ),
    Mutation(
        file="ops/differences.py",
        old='"vector": whole[0] - whole[1],',
        new='"vector": whole[1] - whole[0],',
        breaks="a steering vector points the other way",
        tests=("ops/test_contrasts.py::test_real_files",),
    ),
)

READING = (
    Mutation(
        file="blocks.py",
        old="end = min(origin + ((start - origin) // step + 1) * step, int(ends[first]))",
        new="end = origin + ((start - origin) // step + 1) * step",
        breaks="a block goes on behind the end of its dataset",
        tests=("test_blocks.py::test_blocks_end_with_datasets_or_stored_chunks",),
    ),
    Mutation(
        file="storage/elements.py",
        old="            out.byteswap(inplace=True)\n",
        new="",
        breaks="numbers of the other byte order are read as they lie",
        tests=(
            "storage/test_array.py::test_every_type",
            "storage/test_array.py::test_every_storage_form",
        ),
    ),
    Mutation(
        file="storage/chunked.py",
        old="stop = np.minimum(corners + size, wanted.stop)",
        new="stop = np.minimum(corners + size, wanted.stop - 1)",
        breaks="the last column or row of a box through narrow chunks isn't read",
        tests=("storage/test_array.py::test_any_box_equals_numpy",),
    ),
    Mutation(
        file="storage/chunked.py",
        old="    return [range(s.start // c, -(-s.stop // c)) for",
        new="    return [range(s.start // c, s.stop // c) for",
        breaks="the last chunk of a box that ends within it isn't read",
        tests=("storage/test_array.py::test_any_box_equals_numpy",),
    ),
    Mutation(
        file="storage/chunked.py",
        old="        out[...] = fill_value(place)\n",
        new="        out[...] = 0\n",
        breaks="chunks that were never written read as zeros, whatever fills them",
        tests=("storage/test_array.py::test_every_storage_form",),
    ),
    Mutation(
        file="chunkindex.py",
        old="held = (within >= 0) & (within < self.count[run])",
        new="held = (within >= 0) & (within <= self.count[run])",
        breaks="a chunk that isn't allocated is read from where another run ends",
        tests=("storage/test_array.py::test_every_storage_form",),
    ),
    Mutation(
        file="storage/ranges.py",
        old="for first, stop in pairwise([0, *apart.tolist(), len(offsets)]):",
        new="for first, stop in pairwise([0, *apart.tolist()]):",
        breaks="the last run of ranges isn't read",
        tests=("storage/test_ranges.py::test_ranges_in_any_order",),
    ),
    Mutation(
        file="storage/array.py",
        old="offsets = seg.offsets[lane, held] + (begin[inside] - seg.starts[held]) * row",
        new="offsets = seg.offsets[lane, held]",
        breaks="rows from the middle of a small dataset are read from its beginning",
        tests=("storage/test_array.py::test_rows_from_the_middle_of_many_small_datasets",),
    ),
    Mutation(
        file="storage/codec.py",
        old="mask |= 1 << i",
        new="mask |= 2 << i",
        breaks="a filter that was left out is told to be the next one",
        tests=("storage/test_codec.py::test_lzf_that_does_not_help_is_left_out_as_in_h5py",),
    ),
)

WRITING = (
    Mutation(
        file="storage/publishing.py",
        old="            sync(temporary)\n",
        new="",
        breaks="a file has its name before its bytes are on the disk",
        tests=("storage/test_publishing.py",),
    ),
    Mutation(
        file="storage/publishing.py",
        old="        sync(os.path.dirname(url), os.O_RDONLY)\n",
        new="",
        breaks="a name may be lost with the power, though the writer was told that it is there",
        tests=("storage/test_publishing.py",),
    ),
    Mutation(
        file="storage/publishing.py",
        old="            sync(temporary)\n            if not overwrite:\n"
        "                enforced = _linked(temporary, url)\n"
        "            if not enforced:\n                os.replace(temporary, url)\n",
        new="            if not overwrite:\n"
        "                enforced = _linked(temporary, url)\n"
        "            if not enforced:\n                os.replace(temporary, url)\n"
        "            sync(url)\n",
        breaks="the rename comes before the sync",
        tests=("storage/test_publishing.py",),
    ),
    Mutation(
        file="jobs/state.py",
        old="            file.flush()\n            os.fsync(file.fileno())\n",
        new="            file.flush()\n",
        breaks="a step counts as done that isn't on the disk",
        tests=("jobs/test_state.py::test_a_step_is_on_disk_before_the_next_begins",),
    ),
    Mutation(
        file="writing/writer.py",
        old="    refuse_missing((one for some in written for one in some), expected, url)\n",
        new="",
        breaks="a file is published in which a dataset lacks values",
        tests=("test_arriving.py::test_a_block_that_did_not_arrive_leaves_all_as_it_was",),
    ),
    Mutation(
        file="writing/placing.py",
        old="return Runs(first - start, last - first, self.target[low:high], "
        "self.at[low:high] + skipped)",
        new="return Runs(first - start, last - first, self.target[low:high], self.at[low:high])",
        breaks="a dataset's rows that a later block holds are written over its first ones",
        tests=("test_placing.py::test_runs_bring_every_row_to_its_place",),
    ),
    Mutation(
        file="writing/placing.py",
        old="n = min((stop - start) // inner, lead[axis] - corner[axis])",
        new="n = (stop - start) // inner",
        breaks="a box of leading axes goes on behind their end",
        tests=("test_placing.py::test_flat_boxes_cover_a_run_once_and_in_order",),
    ),
    Mutation(
        file="storage/extents.py",
        old="length = chunk - within if stop == size else real",
        new="length = real",
        breaks="the padding of a last, partial chunk is never written",
        tests=("storage/test_write.py::test_any_blocks_in_any_order_are_the_array",),
    ),
    Mutation(
        file="storage/chunkwriter.py",
        old="padded = np.full(chunks, padding, stored)",
        new="padded = np.zeros(chunks, stored)",
        breaks="a compressed last chunk is filled up with zeros, whatever the fill value",
        tests=("storage/test_chunkwriter.py::test_whole_chunks_in_any_order_are_the_array",),
    ),
    Mutation(
        file="landing.py",
        old="slice(edges[at], edges[at + 1]) for edges, at in",
        new="slice(edges[at - 1], edges[at]) for edges, at in",
        breaks="a block of a large result lands one place too early",
        tests=("test_landing.py::test_the_same_as_dask_s_own",),
    ),
    Mutation(
        file="storage/write.py",
        old="n = os.pwrite(file, view, offset)\n        view, offset = view[n:], offset + n",
        new="os.pwrite(file, view, offset)\n        break",
        breaks="what one call of the system leaves unwritten stays so",
        tests=("storage/test_write.py::test_a_disk_that_takes_less_at_once_is_given_the_rest",),
    ),
)

JOINING = (
    Mutation(
        file="layouts/_structures.py",
        old="        start += len(known)\n",
        new="        start += len(known) - 1\n",
        breaks="two files' structures share a number",
        tests=("test_joining.py::test_what_lies_end_to_end_is_written_and_opens_alike",),
    ),
    Mutation(
        file="layouts/_structures.py",
        old='part.setdefault("source_structure", column.astype(np.int32))',
        new='part.setdefault("source_structure", column.astype(np.int32) + 1)',
        breaks="the number that a structure had in its own file is off by one",
        tests=("test_joining.py::test_the_old_number_of_each_structure_is_kept",),
    ),
    Mutation(
        file="reading/segments.py",
        old="self.offsets[lane].append(ABSENT if gone else offsets[at])",
        new="self.offsets[lane].append(ABSENT if gone else offsets[at - 1])",
        breaks="a group's rows are read from the dataset before its own",
        tests=(
            "test_reader.py::test_a_group_opens_alone",
            "test_reader.py::test_labels_read_only_what_they_select",
        ),
    ),
)

STORAGE = (
    Mutation(
        file="storage/stores/with_http.py",
        old='        return {"If-Match": mark}\n',
        new="        return {}\n",
        breaks="bytes of a replaced object may come with those of the one before",
        tests=("storage/stores/test_with_http.py::test_reading",),
    ),
    Mutation(
        file="storage/stores/with_http.py",
        old='"Range": f"bytes={start}-{stop - 1}"',
        new='"Range": f"bytes={start}-{stop}"',
        breaks="one byte too many is asked for",
        tests=("storage/stores/test_with_http.py::test_reading",),
    ),
    Mutation(
        file="storage/stores/with_http.py",
        old="if first != start or len(answer.body) != wanted:",
        new="if first != start:",
        breaks="a body that was cut short is believed",
        tests=("storage/stores/test_with_http.py::test_a_short_range",),
    ),
    Mutation(
        file="storage/stores/uploads.py",
        old='condition = {"IfNoneMatch": "*"} if absent else {"IfMatch": mark} if mark else {}',
        new='condition = {"IfMatch": mark} if mark else {}',
        breaks="an upload replaces what appeared meanwhile",
        tests=("test_uploading.py::test_what_appears_meanwhile_is_kept",),
    ),
    Mutation(
        file="storage/fetching.py",
        old="return file.held.get(*span, file.mark)",
        new='return file.held.get(*span, "")',
        breaks="an object is read without saying which one",
        tests=("storage/test_fetching.py::test_without_gathering_a_read_waits",),
    ),
    Mutation(
        file="storage/held.py",
        old="grains = self._here[offset // GRAIN : -(-min(offset + nbytes, self.nbytes) // GRAIN)]",
        new="grains = self._here[offset // GRAIN : min(offset + nbytes, self.nbytes) // GRAIN]",
        breaks="HDF5 is given zeros for metadata that isn't here yet",
        tests=("storage/test_held.py",),
    ),
)

JOBS = (
    Mutation(
        file="jobs/lease.py",
        old="        while not self._ended.wait(self.beat):\n"
        "            if not self.place.beat(self.owner):\n                return\n",
        new="        self._ended.wait()\n",
        breaks="who works gives no sign of life, and is taken over",
        tests=("jobs/test_lease.py::test_it_is_kept_fresh",),
    ),
    Mutation(
        file="jobs/store_lease.py",
        old="return self._store.put(sign, mark=there.mark, token=owner.token)",
        new="return self._store.put(sign, token=owner.token)",
        breaks="a lease in a store is taken from somebody who came since",
        tests=(
            "jobs/test_store_lease.py::test_a_fresh_lease_survives_a_takeover_that_judged_its_predecessor",
        ),
    ),
    Mutation(
        file="jobs/file_lease.py",
        old="if found is not None and found.owner != judged:",
        new="if found is None:",
        breaks="a lease in a folder is taken from somebody who came since",
        tests=(
            "jobs/test_lease.py::test_a_fresh_lease_survives_a_takeover_that_judged_its_predecessor",
        ),
    ),
    Mutation(
        file="jobs/record.py",
        old="inputs = [(shown(source.url), source.fingerprint) for source in sources]",
        new="inputs = [shown(source.url) for source in sources]",
        breaks="an output counts as current though its input was changed",
        tests=("jobs/test_run.py::test_what_makes_a_run_anew",),
    ),
    Mutation(
        file="jobs/record.py",
        old="told = [FORMAT, name, version, inputs, parameters, os.path.basename(output)]",
        new="told = [FORMAT, name, version, inputs, os.path.basename(output)]",
        breaks="an output counts as current though parameters are others",
        tests=("jobs/test_run.py::test_what_makes_a_run_anew",),
    ),
    Mutation(
        file="jobs/state.py",
        old='if json.load(file)["digest"] == digest:',
        new='if json.load(file)["digest"]:',
        breaks="a run goes on with what one of other parameters left",
        tests=("jobs/test_state.py::test_another_digest_begins_anew_and_leaves_the_lease",),
    ),
    Mutation(
        file="jobs/outputs.py",
        old='outputs.state_of(one["name"]) == one["fingerprint"]',
        new='bool(outputs.state_of(one["name"]))',
        breaks="an output that was changed by hand counts as current",
        tests=("jobs/test_run.py::test_what_makes_a_run_anew",),
    ),
    Mutation(
        file="jobs/__init__.py",
        old="    if any(changed):\n",
        new="    if all(changed) and not changed:\n",
        breaks="an output is published of inputs that changed meanwhile",
        tests=("jobs/test_run.py::test_an_input_that_changes_while_the_run_works",),
    ),
)

JUDGING = (
    Mutation(
        file="check/faults.py",
        old="np.less(block[:, 1:], block[:, :-1], out=mask[:, 1:])",
        new="np.greater(block[:, 1:], block[:, :-1], out=mask[:, 1:])",
        breaks="ascending distances are a problem, and descending ones none",
        tests=("test_check.py::test_descending_values_are_found_in_their_row",),
    ),
    Mutation(
        file="check/faults.py",
        old="return _find_outside(0, setting.sizes[dim] - 1, block, start, setting)",
        new="return _find_outside(0, setting.sizes[dim], block, start, setting)",
        breaks="a neighbor one row behind the base's end is taken for one of it",
        tests=("test_check.py::test_ids_are_rows_of_the_base",),
    ),
    Mutation(
        file="check/structure.py",
        old="required = [spec for spec in layout.arrays if spec.required]",
        new="required = [spec for spec in layout.arrays if not spec.required]",
        breaks="datasets that a layout needs aren't missed",
        tests=("test_structure.py::test_missing_datasets_are_named_by_group",),
    ),
    Mutation(
        file="ops/deviations.py",
        old="return 1.0 - pairs.products",
        new="return 1.0 + pairs.products",
        breaks="distances of inner products are judged by the wrong sign",
        tests=("ops/test_deviations.py",),
    ),
    Mutation(
        file="cli/__init__.py",
        old="return FOUND if any(verdict.problems for verdict in verdicts) else FINE",
        new="return FINE",
        breaks="a shell is told that a broken file is fine",
        tests=("test_cli.py::test_validate_tells_a_line_a_problem",),
    ),
    Mutation(
        file="cli/__init__.py",
        old="        return FAILED\n",
        new="        return FINE\n",
        breaks="a shell is told that a file which could not be read is fine",
        tests=("test_cli.py::test_validate_judges_each_file",),
    ),
)

MUTATIONS = (*KERNELS, *READING, *WRITING, *JOINING, *STORAGE, *JOBS, *JUDGING)
"""Each was tried; `python -m tests.mutations` tries them again."""
