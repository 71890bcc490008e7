"""Small wrong changes to the code, one at a time: each must turn a test red.

python tests/mutants.py --out runs/mutants.json     # make mutants: hours, and the same command goes on

Each change is made in a copy of the repository, and only the tests of its module are run there; before, they are run
without any change. A change that no test notices is printed as GREEN: a test is missing. EQUIVALENT names the changes
that are no mistakes, HANGS those that a test notices by not ending. The test that saw a change is tried first the next
time, alone; if it is no longer red, all are. --remember writes these tests to seen_by.json, for other machines.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from common.runtime import bound, cli, files, runs
from common.runtime.cli import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENOUGH = 0.95  # share of the changes that must turn a test red
TO_READ = ".md", ".ipynb"
PATIENCE = 900  # seconds for the tests of one change
SEEN_BY = os.path.join("tests", "seen_by.json")

TESTS = {
    "common/agent/controller.py": "tests/agent/test_controller.py",
    "common/agent/mdnrnn.py": "tests/agent/test_mdnrnn.py tests/agent/test_dropout.py tests/agent/test_heads.py "
    "tests/training/test_gaussian.py",
    "common/agent/discriminator.py": "tests/training/test_gan.py",
    "common/agent/models.py": "tests/agent/test_models.py",
    "common/agent/network.py": "tests/agent/test_network.py",
    "common/agent/planet.py": "tests/test_planet.py",
    "common/agent/planner.py": "tests/test_planner.py",
    "common/agent/rssm.py": "tests/test_rssm.py",
    "common/agent/vae.py": "tests/agent/test_vae.py",
    "common/data/recordings.py": "tests/data/test_recordings.py tests/play/test_record.py",
    "common/data/replay.py": "tests/test_planet.py",
    "common/data/series.py": "tests/data/test_series.py tests/data/test_mixed.py",
    "common/game.py": "tests/games/test_game.py tests/games/test_new_game.py tests/worlds/test_gym_envs.py "
    "tests/play/test_record.py tests/games/test_two_actions.py tests/training/test_evolve.py",
    "common/play/agents.py": "tests/play/test_agents.py tests/training/test_evolve.py tests/test_provenance.py",
    "common/play/fidelity.py": "tests/play/test_fidelity.py",
    "common/play/planet.py": "tests/play/test_play_planet.py",
    "common/play/play.py": "tests/play/test_play.py tests/test_golden.py tests/test_seeds.py "
    "tests/games/test_two_actions.py",
    "common/play/record.py": "tests/play/test_record.py tests/test_golden.py tests/test_seeds.py",
    "common/play/select.py": "tests/test_golden.py tests/test_seeds.py tests/play",
    "common/play/video.py": "tests/play/test_video.py",
    "common/runtime/bound.py": "tests/runtime/test_interrupt.py tests/runtime/test_parallel.py",
    "common/runtime/cli.py": "tests/runtime/test_cli.py",
    "common/runtime/devices.py": "tests/runtime/test_devices.py",
    "common/runtime/files.py": "tests/runtime/test_files.py tests/runtime/test_runs.py",
    "common/runtime/interrupt.py": "tests/runtime/test_cli.py tests/runtime/test_interrupt.py",
    "common/runtime/mpi.py": "tests/runtime/test_mpi.py",
    "common/runtime/parallel.py": "tests/runtime/test_parallel.py",
    "common/runtime/provenance.py": "tests/test_provenance.py",
    "common/runtime/runs.py": "tests/runtime/test_runs.py",
    "common/runtime/seeds.py": "tests/test_seeds.py",
    "common/runtime/settings.py": "tests/test_presets.py tests/agent/test_network.py tests/training/test_gaussian.py "
    "tests/training/test_gan.py",
    "common/studio/export.py": "tests/studio/test_site.py",
    "common/studio/server.py": "tests/studio/test_server.py",
    "common/studio/session.py": "tests/studio/test_session.py tests/test_seeds.py tests/test_provenance.py",
    "common/training/dreams.py": "tests/training/test_dreams.py",
    "common/training/es.py": "tests/training/test_es.py tests/training/test_pepg_ses_ga.py",
    "common/training/evolution.py": "tests/training/test_evolution.py",
    "common/training/evolve.py": "tests/training/test_evolve.py tests/training/test_dream_train.py tests/test_golden.py",
    "common/training/gan.py": "tests/training/test_gan.py",
    "common/training/iterate.py": "tests/training/test_iterate.py",
    "common/training/launch.py": "tests/training/test_iterate.py",
    "common/training/layout.py": "tests/training/test_iterate.py",
    "common/training/plan.py": "tests/test_seeds.py tests/training/test_iterate.py",
    "common/training/report.py": "tests/training/test_report.py tests/training/test_iterate.py",
    "common/training/restore.py": "tests/training/test_iterate.py",
    "common/training/ship.py": "tests/training/test_iterate.py tests/training/test_ship.py tests/test_planet.py",
    "common/training/planet.py": "tests/test_planet.py",
    "common/training/policy_gradient.py": "tests/training/test_policy_gradient.py",
    "common/training/ppo.py": "tests/training/test_ppo.py tests/worlds/test_dream_pay.py",
    "common/training/state.py": "tests/training/test_iterate.py",
    "common/training/trainers.py": "tests/training/test_trainers.py tests/training/test_gaussian.py",
    "common/training/vae_and_rnn.py": "tests/training/test_trainers.py tests/test_golden.py tests/data/test_mixed.py "
    "tests/training/test_refused.py tests/data/test_recordings.py",
    "common/worlds/believed.py": "tests/test_planet.py",
    "common/worlds/candidates.py": "tests/worlds/test_candidates.py tests/training/test_ppo.py",
    "common/worlds/dream.py": "tests/worlds/test_dream.py tests/worlds/test_dream_pay.py",
    "common/worlds/encoded.py": "tests/worlds/test_encoded.py",
    "common/worlds/game_rows.py": "tests/training/test_ppo.py",
    "common/worlds/games.py": "tests/worlds/test_games.py tests/test_planet.py",
    "common/worlds/gym_envs.py": "tests/worlds/test_gym_envs.py",
    "common/worlds/rssm_dreams.py": "tests/test_planet.py",
    "common/worlds/rollouts.py": "tests/worlds/test_rollouts.py",
    "common/worlds/tensor_dreams.py": "tests/training/test_ppo.py tests/worlds/test_dream_pay.py",
    "bench/gradient_or_evolution.py": "tests/test_gradient_or_evolution.py",
    "bench/open_loop.py": "tests/test_open_loop.py",
    "bench/policy_gradient.py": "tests/test_policy_gradient_bench.py",
    "bench/dream.py": "tests/test_speed_benches.py",
    "bench/ppo.py": "tests/test_speed_benches.py",
    "bench/running.py": "tests/test_variants.py tests/test_gradient_or_evolution.py",
    "bench/scale.py": "tests/test_variants.py",
    "bench/small_objects.py": "tests/test_small_objects.py",
    "bench/variants.py": "tests/test_variants.py",
    "carracing/config.py": "tests/test_presets.py",
    "carracing/dream_env.py": "tests/games/test_scripts.py",
    "carracing/dream_model.py": "tests/games/test_scripts.py",
    "carracing/env.py": "tests/games/test_carracing.py tests/games/test_two_actions.py tests/test_presets.py",
    "carracing/game.py": "tests/games/test_carracing.py tests/games/test_two_actions.py",
    "carracing/pick_best.py": "tests/games/test_scripts.py",
    "doomrnn/config.py": "tests/test_presets.py",
    "doomrnn/doomreal.py": "tests/test_golden.py tests/games/test_doomreal.py tests/games/test_scripts.py",
    "doomrnn/game.py": "tests/test_golden.py",
    "doomrnn/series.py": "tests/games/test_scripts.py",
}
"""the tests of each module"""

MUTANTS = [
    # the MDN-RNN
    ("common/agent/mdnrnn.py", "for scale, part in zip(scales, losses, strict=True))", "for scale, part in zip(scales[:1], losses))"),
    ("common/agent/mdnrnn.py", "tf.shape(batch[0]), seed + [0, replica])", "tf.shape(batch[0]), [0, replica])"),
    ("common/agent/mdnrnn.py", "return loss * (1 + (weight - 1) * restart)", "return loss"),
    ("common/agent/mdnrnn.py", "tf.sqrt(temperature) * normal", "temperature * normal"),
    ("common/agent/mdnrnn.py", "logits = mixture.logmix / temperature", "logits = mixture.logmix"),
    ("common/agent/mdnrnn.py", "tf.sigmoid(f + FORGET_BIAS)", "tf.sigmoid(f)"),
    ("common/agent/mdnrnn.py", "return tf.cast(uniform >= dropout, tf.float32) / (1 - dropout)",
     "return tf.cast(uniform >= dropout, tf.float32)"),
    ("common/agent/mdnrnn.py", "z = vae.sample(mu, logvar, noise)", "z = vae.sample(mu, 2 * logvar, noise)"),
    ("common/agent/mdnrnn.py", "rnn.sequence(weights, inputs, 1 - restart[:-1], (h, c))",
     "rnn.sequence(weights, inputs, tf.ones_like(restart[:-1]), (h, c))"),
    ("common/agent/mdnrnn.py", "(part * (1 - fresh[:, tf.newaxis]) for part in state)", "(part for part in state)"),
    ("common/agent/mdnrnn.py", "tf.clip_by_value(reward, pay.least, pay.most))", "reward)"),
    ("common/agent/mdnrnn.py", "fell = tf.cast(reward < pay.fall_below, tf.float32)",
     "fell = tf.cast(reward > pay.fall_below, tf.float32)"),
    ("common/agent/mdnrnn.py", "replica_losses(batch, state, seed, dropout)", "replica_losses(batch, state, seed)"),
    ("common/agent/mdnrnn.py", "seed + [0, replica])\n        mask", "seed)\n        mask"),
    ("common/agent/mdnrnn.py", "square = tf.exp(logvar - 2 * logstd)", "square = tf.exp(logvar - logstd)"),
    ("common/agent/mdnrnn.py", "return logstd - 0.5 * logvar + 0.5 * (square - 1)", "return logstd + 0.5 * logvar + 0.5 * (square - 1)"),
    ("common/agent/mdnrnn.py", "tf.transpose(part, [1, 0, 2])[1:]", "tf.transpose(part, [1, 0, 2])[:-1]"),
    ("common/agent/mdnrnn.py", "threshold = uniform * cumulative[-1]", "threshold = uniform * tf.add_n(weight)"),
    ("common/agent/mdnrnn.py", "chosen = threshold >= cumulative[k - 1]", "chosen = threshold >= cumulative[k]"),
    ("common/agent/mdnrnn.py", "[tf.reduce_mean(tf.stack(part), axis=0) for", "[tf.reduce_sum(tf.stack(part), axis=0) for"),
    # the VAE
    ("common/agent/vae.py", "seed + [0, replica])", "[0, replica])"),
    ("common/agent/vae.py", "tf.maximum(kl_to_standard_normal(mu, logvar), 0.5 * self.z_size)", "kl_to_standard_normal(mu, logvar)"),
    # training of the VAE and the MDN-RNN
    ("common/training/trainers.py", "losses, self._memory = self._train(", "losses, _ = self._train("),
    ("common/training/trainers.py", "losses, memory = self._evaluate(", "losses, _ = self._evaluate("),
    ("common/training/trainers.py", "lambda: mdnrnn.MDNRNN(shape), blocks=True, clipvalue=cfg.clip)",
     "lambda: mdnrnn.MDNRNN(shape), blocks=True)"),
    ("common/training/trainers.py", "return total / batches.per_epoch", "return total"),
    ("common/training/vae_and_rnn.py", "chunks = _chunks(game, cfg, known)", "chunks = _chunks(game, cfg, data)"),
    ("common/training/vae_and_rnn.py", "if count * WEIGHT_BYTES > files.JSON_LIMIT", "if False"),
    ("common/training/vae_and_rnn.py", "trainer.losses_on(unseen))", "trainer.losses_on(known))"),
    ("common/training/vae_and_rnn.py", "cfg.restart_weight if config.RESTART else 0.0", "1.0"),
    ("common/training/trainers.py", "np.array([self.cfg.seed, step], np.int32)))", "np.array([self.cfg.seed, 0], np.int32)))"),
    ("common/training/vae_and_rnn.py", "weights.rnn_start_from(earlier, model, game.config.RNN_FILE_ORDER)", "pass"),
    ("common/training/vae_and_rnn.py", "cfg.episodes_per_part, cfg.mirror)", "cfg.episodes_per_part)"),
    ("common/training/vae_and_rnn.py", "cfg.seed, mirror=cfg.mirror, **own)", "cfg.seed, **own)"),
    ("common/training/trainers.py", "CosineDecay(0.0, decay, warmup_target=rate, warmup_steps=warmup)",
     "CosineDecay(rate, decay)"),
    # evolution: its state, its files
    ("common/training/evolution.py", "best_before = self._best[1] if self._best else score", "best_before = previous"),
    ("common/training/evolution.py", "np.random.default_rng([self._cfg.seed_start, self.generation])",
     "np.random.default_rng([self._cfg.seed_start, 0])"),
    ("common/training/evolution.py", "np.arange(seeds.EVALUATION, seeds.EVALUATION + self._cfg.eval_episodes)",
     "self.seeds(self._cfg.eval_episodes)"),
    ("common/training/evolution.py", "return self.strategy.mean if self._average is None else np.round(self._average, 4)",
     "return self.strategy.mean"),
    ("common/training/evolution.py", "-(-cfg.generations // cfg.eval_steps)", "cfg.generations // cfg.eval_steps"),
    ("common/training/evolution.py", "NUMBER_BYTES = 9 ", "NUMBER_BYTES = 4 "),
    ("common/training/evolution.py", "(1 - self._cfg.averaging) * self.strategy.mean", "self.strategy.mean"),
    ("common/training/evolution.py", "self._log = self._completed(log)", "self._log = []"),
    ("common/training/evolution.py", "return max(self._alike, key=lambda row: row[1], default=None)",
     "return self._alike[-1] if self._alike else None"),
    ("common/training/evolution.py", "if row[3] == _scored_by(vars(self._cfg))]", "]"),
    # strategies
    ("common/training/es.py", "            self._es.pop_injection_directions = self._injected", "            pass"),
    ("common/training/es.py", "[direction.copy() for direction in self._es.pop_injection_directions]", "list(self._es.pop_injection_directions)"),
    ("common/training/es.py", "self._es.tell(self._asked, list(-finite))", "self._es.tell(self._asked, list(finite))"),
    ("common/training/es.py", "(start, popsize, cfg.sigma_init, cfg.seed_start, *rate)", "(start, popsize, 0.1, cfg.seed_start, *rate)"),
    ("common/training/es.py", "(start, popsize, cfg.sigma_init, cfg.seed_start, *rate)", "(start, popsize, cfg.sigma_init, 0, *rate)"),
    ("common/training/es.py", "(start, popsize, cfg.sigma_init, cfg.seed_start, *rate)",
     "(0 * start, popsize, cfg.sigma_init, cfg.seed_start, *rate)"),
    ("common/training/es.py", "np.concatenate([noise, -noise])\n        return np.round(self._mean + self._sigma",
     "np.concatenate([noise, noise])\n        return np.round(self._mean + self._sigma"),
    ("common/training/es.py", "np.concatenate([noise, -noise])\n        return np.round(self._mean + self._noise",
     "np.concatenate([noise, noise])\n        return np.round(self._mean + self._noise"),
    ("common/training/es.py", "fitness[bad] = fitness[~bad].min() - 1", "fitness[bad] = fitness[~bad].max() + 1"),
    ("common/training/es.py", "np.round(origin + coordinates @ directions.T, 4)", "np.round(coordinates @ directions.T, 4)"),
    ("common/training/es.py", "SIGMA_RATE * (above @ ((noise**2 - sigma**2) / sigma))",
     "SIGMA_RATE * (above @ ((sigma**2 - noise**2) / sigma))"),
    ("common/training/es.py", "above = (plus + minus) / 2 - reward.mean()", "above = (plus - minus) / 2 - reward.mean()"),
    ("common/training/es.py", "reward -= _weight_cost(self._mean + self._noise)", "pass"),
    ("common/training/es.py", "max(0.9999 ** float(self._steps), 0.1)", "0.9999 ** float(self._steps)"),
    ("common/training/es.py", "last = np.sort(reward)[-count]", "last = np.sort(reward)[count]"),
    ("common/training/es.py", "(count - above.sum()) / level.sum()", "1"),
    ("common/training/es.py", "np.where(self._rng.random(one.shape) < 0.5, one, other)", "one"),
    ("common/training/es.py", "np.concatenate([self._elites, crossed + noise])", "np.concatenate([self._elites + noise[: len(self._elites)], crossed + noise])"),
    # the VAE-GAN
    ("common/training/gan.py", "output_gradients=[tf.ones([]), to_frames])", "output_gradients=[tf.ones([]), pulls[0]])"),
    ("common/training/gan.py", "output_gradients=[tf.ones([]), to_frames])", "output_gradients=[tf.zeros([]), to_frames])"),
    ("common/training/gan.py", "pulls = [to_frames + weight * to_real[0],", "pulls = [weight * to_real[0],"),
    ("common/training/gan.py", "tf.norm(to_frames), tf.linalg.global_norm(to_real))", "tf.linalg.global_norm(to_real), tf.norm(to_frames))"),
    ("common/training/gan.py", "tf.math.divide_no_nan(tf.norm(to_frames), tf.linalg.global_norm(to_real))", "tf.norm(to_frames) / tf.linalg.global_norm(to_real)"),
    ("common/training/gan.py", "for layer in zip(seen, seen_again, strict=True)]", "for layer in zip(seen[1:], seen_again[1:], strict=True)]"),
    ("common/training/gan.py", "(step / steps - RAMP_BEGINS) / (RAMP_ENDS - RAMP_BEGINS)", "step / steps / RAMP_ENDS"),
    ("common/training/gan.py", "model.z_size], seed))", "model.z_size], [0, 0]))"),
    ("common/training/gan.py", "        pixels = devices.nan_unless_finite(pixels, [part for group in gradients for part in group])\n", ""),
    ("common/training/gan.py", "seed = np.array([self.cfg.seed, step], np.int32)", "seed = np.array([self.cfg.seed, 0], np.int32)"),
    ("common/training/gan.py", "seed, tf.constant(judgment))", "seed, judgment)"),
    ("common/agent/discriminator.py", "x = tf.cast(conv(x), tf.float32)", "x = conv(x)"),
    ("common/agent/discriminator.py", 'padding="same", ', ""),
    ("common/training/gan.py", "return decoder | neither, discriminator | neither", "return decoder, discriminator"),
    ("common/training/gan.py", "tf.cond(learns, apply, lambda: tf.constant(False))", "apply()"),
    ("common/training/gan.py", "self._clock.assign(step - 1)", "pass"),
    # train.py: who plays what
    ("common/training/evolve.py", "run.add_evaluation(arena.evaluate(run.mean, run.evaluation_seeds()).mean())",
     "run.add_evaluation(np.median(arena.evaluate(run.mean, run.evaluation_seeds())))"),
    ("common/training/evolve.py", "run.add_evaluation(arena.evaluate(run.mean, run.evaluation_seeds()).mean())",
     "run.add_evaluation(arena.evaluate(run.mean, run.seeds()).mean())"),
    ("common/training/evolve.py", "run.strategy.tell(arena.fitness(returns))", "run.strategy.tell(returns.mean(axis=1))"),
    ("common/training/evolve.py", "population, seeds[k :: self._count], self._rows, k)", "population, seeds, self._rows, k)"),
    ("common/training/evolve.py", "return self._in_blocks(mean[None], seeds, False)[0][0]",
     "return self._in_blocks(mean[None], seeds, True)[0][0]"),
    ("common/training/evolve.py", "self._episodes_of(run.generation + 1)", "self._episodes_of(run.generation)"),
    ("common/training/evolve.py", "loaded.vae, loaded.rnn, cfg.sample_z)", "loaded.vae, loaded.rnn, True)"),
    ("common/training/evolve.py", "    dreams.end_weight(game, cfg, loaded)  # which", "    pass  # which"),
    ("common/training/evolve.py", 'if getattr(cfg, "ends", "") == "drawn" and not game.config.RESTART', 'if False'),
    ("common/training/evolve.py", "for hidden in (cfg.hidden, cfg.value_hidden):", "for hidden in (cfg.hidden,):"),
    ("common/training/evolve.py", "shares = rnns * max(1, cfg.blocks // rnns)", "shares = rnns"),
    ("common/training/evolve.py", "if min(cfg.num_episode, cfg.eval_episodes) < rnns", "if cfg.num_episode < rnns"),
    ("common/training/evolve.py", "directions > starts - game.config.CONTROLLER_BIAS", "directions > starts"),
    ("common/training/evolve.py", "_ = strategy.mean  # finds", "pass  # finds"),
    ("common/training/evolve.py", "evolution.check_log(cfg, shape.parameters)", "pass"),
    ("common/training/evolve.py", "cfg.rules() if hurried else {}", "cfg.rules()"),
    ("common/training/evolve.py", "np.nanmedian(fitness, axis=0)", "np.nanmean(fitness, axis=0)"),
    # the policy gradient
    ("common/training/ppo.py", "discount * following * (1 - done) - value", "discount * following - value"),
    ("common/training/ppo.py", "discount * gae_lambda * (1 - now[1]) * later", "discount * (1 - now[1]) * later"),
    ("common/training/ppo.py", "tf.minimum(ratio * advantage, clipped * advantage)", "ratio * advantage"),
    ("common/training/ppo.py", "tether * leaving - gain - s.entropy * entropy", "tether * leaving - gain"),
    ("common/training/ppo.py", "learns * (tether * leaving - gain", "learns * (-gain"),
    ("common/training/ppo.py", "(tf.math.reduce_std(known) + 1e-8)", "1.0"),
    ("common/training/ppo.py", "error = error if cut is None else error * (1 - cut)", "pass"),
    ("common/training/ppo.py", "variable.assign(tf.where(sound, after[name], before[name]))", "variable.assign(after[name])"),
    ("common/training/ppo.py", "teaches = data.played & (data.cut == 0)", "teaches = data.played"),
    ("common/training/ppo.py", "tf.where(teaches, (advantage - tf.reduce_mean(known))", "tf.where(teaches | True, (advantage - tf.reduce_mean(known))"),
    ("common/worlds/tensor_dreams.py", "ends = tf.where(done, 1.0, 1 - goes_on) if self._pay else done", "ends = done"),
    ("common/training/policy_gradient.py", "(1 - (1 - LEAST_RATE) * done) * cfg.learning_rate", "cfg.learning_rate"),
    ("common/training/policy_gradient.py", "cfg.dropout,\n        cfg.controller_mode,", "0.0,\n        cfg.controller_mode,"),
    ("common/training/policy_gradient.py", "cfg.temperature,\n        game.config.MAX_STEPS,",
     "1.0,\n        game.config.MAX_STEPS,"),
    ("common/worlds/tensor_dreams.py", "reward, after = -tf.cast(ended, tf.float32), [z, h, c, age]",
     "reward, after = -tf.cast(ended | (age >= self.max_steps), tf.float32), [z, h, c, age]"),
    ("common/worlds/tensor_dreams.py", "noise = uniform, normal, self.temperature, mask", "noise = uniform, normal, self.temperature"),
    ("common/worlds/tensor_dreams.py", "restart = tf.cast(tf.equal(age, 0), tf.float32)", "restart = tf.zeros_like(age, tf.float32)"),
    ("common/worlds/tensor_dreams.py", "tf.random.stateless_uniform(tf.shape(age), seeds[3])", "tf.random.stateless_uniform([1], seeds[3])"),
    # PlaNet
    ("common/agent/rssm.py", '"reward": mean_of(reward, there)', '"reward": mean_of(reward, known)'),
    ("common/agent/rssm.py", "tf.nn.softplus(raw) + self.shape.least_std", "tf.nn.softplus(raw)"),
    ("common/agent/rssm.py", "tf.maximum(kl(posterior, prior) - cfg.free_nats", "tf.maximum(kl(prior, posterior) - cfg.free_nats"),
    ("common/agent/rssm.py", "Normal(*map(tf.stop_gradient, posterior))", "posterior"),
    ("common/agent/planner.py", "tf.clip_by_value(mean[:, tf.newaxis] + std[:, tf.newaxis] * noise, low, high)",
     "mean[:, tf.newaxis] + std[:, tf.newaxis] * noise"),
    ("common/agent/planner.py", "alive *= tf.sigmoid(-model.end_logit(weights, state))", "pass"),
    ("common/data/replay.py", "np.maximum(brought, -self._limit)[:rows]", "brought[:rows]"),
    ("common/data/replay.py", " or bool(reward[-1] < self._fall_below)", ""),
    ("common/data/replay.py", "np.add.reduceat(action, starts) / counts[:, None]", "np.add.reduceat(action, starts)"),
    ("common/worlds/believed.py", "[self._noise[k] for k in on]", "self._noise[: len(on)]"),
    ("common/worlds/believed.py", "self._see(frames, state, action[on])", "self._see(frames, state, action[: len(on)])"),
    ("common/worlds/believed.py", "self._step += 1", "pass"),
    ("common/worlds/believed.py", "self._noise * planner.width * normal", "self._noise * normal"),
    ("common/worlds/believed.py", "np.clip(action + self._noise * planner.width * normal, planner.low, planner.high)",
     "action + self._noise * planner.width * normal"),
    ("common/worlds/believed.py", "return action.astype(np.float16).astype(np.float32)", "return action"),
    ("common/worlds/candidates.py", "Candidates(controller, rows, action_of), seeds.ravel())",
     "Candidates(controller, rows), seeds.ravel())"),
    ("common/worlds/candidates.py", "(len(seeds), 1)), action_of), seeds)", "(len(seeds), 1))), seeds)"),
    ("common/worlds/rssm_dreams.py", "self._rngs[row].random() for row", "0.5 for row"),
    ("common/worlds/rssm_dreams.py", "(self.age >= self._max_steps)", "(self.age > self._max_steps)"),
    ("common/worlds/rssm_dreams.py", "np.float32(self.temperature**0.5)", "np.float32(self.temperature)"),
    ("common/training/planet.py", "rules = cfg.rules() if training else {}", "rules = cfg.rules()"),
    ("common/play/record.py", "len(episodes), backend, **cfg.rules())", "len(episodes), backend)"),
    ("common/training/planet.py", "(-(-planned // cfg.rows) + 1) * cfg.updates", "-(-planned // cfg.rows) * cfg.updates"),
    ("common/training/ppo.py", 'tf.not_equal(v["update"], s.value_updates)', 'tf.not_equal(v["update"], -1)'),
    ("common/worlds/tensor_dreams.py", "done, cut = ended | cut, cut & ~ended", "done, cut = ended | cut, tf.zeros_like(ended)"),
    ("common/worlds/tensor_dreams.py", "np.exp(0.5 * logvar)", "np.exp(logvar)"),
    ("common/worlds/tensor_dreams.py", "rows, tf.random.fold_in(seed, k)) for k, pool", "rows, seed) for k, pool"),
    ("common/worlds/tensor_dreams.py", "share[-1], tf.random.fold_in(seed, k))", "share[-1], seed)"),
    ("common/agent/mdnrnn.py", "nats if restart_z else nats *", "nats if not restart_z else nats *"),
    ("common/worlds/games.py", "done & (not cut)", "done"),
    # the policy gradient in games
    ("common/training/ppo.py", "played = tf.where(tf.reshape(steps.played, [total]))[:, 0]", "played = tf.range(total, dtype=tf.int64)"),
    ("common/training/ppo.py", "state = games.start([s.seed_start, self.updates])", "state = games.start([s.seed_start, 0])"),
    ("common/training/ppo.py", "tf.random.fold_in(key, t // s.hold_noise))", "tf.random.fold_in(key, 0))"),
    ("common/training/ppo.py", "tf.random.fold_in(key, t // s.hold_noise))", "tf.random.fold_in(key, t))"),
    ("common/training/ppo.py", "drawn = policy.head.draw(outputs, held[0])", "drawn = policy.head.draw(outputs, new[0])"),
    ("common/training/ppo.py", "policy.head.action_of(drawn), new[1])", "policy.head.action_of(drawn), held[1])"),
    ("common/training/ppo.py", "np.float32(s.reward_scale) * reward", "reward"),
    ("common/training/ppo.py", "self._act(features_of(mode, *state)", "self._act(features_of(mode, *games.start([0]))"),
    ("common/training/policy_gradient.py", "evolution.check_log(cfg, policy.parameters)", "pass"),
    ("common/training/policy_gradient.py", "metrics[\"steps\"] / cfg.rows", "metrics[\"steps\"]"),
    ("common/training/policy_gradient.py", "loaded.vae, loaded.rnn, cfg.sample_z)", "loaded.vae, loaded.rnn)"),
    ("common/training/policy_gradient.py", "learner, MAY_CHANGE, cfg.world, made_of", "learner, MAY_CHANGE, \"dream\", made_of"),
    ("common/training/policy_gradient.py", "(games() if rules else world).evaluate", "world.evaluate"),
    ("common/worlds/game_rows.py", "(reward > self._complete_above)", "(reward > np.inf)"),
    ("common/training/policy_gradient.py", 'getattr(game.config, "COMPLETE_ABOVE", np.inf)', "np.inf"),
    ("common/training/policy_gradient.py", "rules = cfg.rules()", "rules = {}"),
    ("carracing/config.py", '{"patience": patience, "charged": False} if', '{"patience": patience} if'),
    ("carracing/config.py", '{"patience": self.patience} if', '{} if'),
    ("carracing/config.py", '({"random_start": True} if self.random_start else {})', "{}"),
    ("carracing/config.py", "rules = uncharged(self.patience)", "rules = {}"),
    ("carracing/config.py", 'rules |= {"enough": self.enough} if self.enough < 1 else {}', "pass"),
    ("carracing/config.py", 'return rules | ({"grass": self.grass} if self.grass else {})', "return rules"),
    ("carracing/env.py", "reward = reward - self._grass * on_grass(screens)", "reward = reward - self._grass"),
    ("carracing/env.py", ".mean(axis=1).min(axis=1)", ".mean(axis=1).max(axis=1)"),
    ("carracing/env.py", "(reward + 0.1) / 1000, 0)", "reward / 1000, 0)"),
    ("carracing/env.py", "np.where(reward > 0, (reward + 0.1) / 1000, 0)", "(reward + 0.1) / 1000"),
    ("carracing/env.py", "self._visited >= self._enough", "self._visited > 1"),
    ("common/worlds/game_rows.py", "unannounced = (self._steps >= self._max_steps)", "unannounced = (self._steps > self._max_steps)"),
    ("common/worlds/game_rows.py", "rows = share[played[share]]", "rows = share"),
    ("common/worlds/game_rows.py", "whole[rows[~done[rows]]] = part", "whole[rows[: len(part)]] = part"),
    ("common/worlds/game_rows.py", "np.zeros(self.rows, np.float32), ~self.on", "np.ones(self.rows, np.float32), ~self.on"),
    # iterate.py
    ("common/training/state.py", 'if number == 1 or not edited:', 'if number == 1:'),
    ("common/training/layout.py", 'seed.isdigit() and int(seed) >= first_seed', 'seed.isdigit() and int(seed) > first_seed'),
    ("common/training/layout.py", 'if line["round"] < number]', 'if line["round"] <= number]'),
    ("common/training/layout.py", 'series = os.path.realpath(', 'series = str('),
    ("common/training/state.py", 'plan.check_flags(range(number, len(rounds) + 1))  # before', 'pass  # before'),
    ("common/training/layout.py", '_link_again(os.path.join(self.run, name), os.path.join(aside, name))', 'pass'),
    ("common/training/iterate.py", "(ship.ship if arguments.ship else ship.log)", "ship.ship"),
    ("common/training/ship.py", "if player != files.sha256(agent):\n        raise", "if False:\n        raise"),
    ("common/training/ship.py", "if player != files.sha256(agent):\n        os.remove", "if False:\n        os.remove"),
    ("common/training/ship.py", 'if not name.startswith("aside")]', ']'),
    ("common/training/ship.py", 'line["real"]["mean"] - line["real"]["stderr"]', 'line["real"]["mean"]'),
    ("common/training/plan.py", '"seed_start": self.seed_of(number, which)}', '"seed_start": self.seed_of(number)}'),
    ("common/training/plan.py", "number + 10_000 * (which - 1)", "number + 1_000 * (which - 1)"),
    ("common/training/plan.py", '[self.train_flags(number, flags, "the round before", others) for flags in trainings(one)]', 'trainings(one)'),
    ("common/training/plan.py", "if one.vae is not None and one.rnn is None", "if False"),
    ("common/training/plan.py", "names += [nth(\"train\", which)] * self._starts_along_games(flags)", "names += [\"train\"] * self._starts_along_games(one.train or {})"),
    ("common/training/iterate.py", "layout.make_within(folder, name, (*MODELS, \"series\"))", "layout.make_within(folder, name, MODELS)"),
    ("common/training/iterate.py", "flags = {\"\": logs,", "flags = {\"\": logs[0],"),
    ("common/training/ship.py", "_evolution_of(path), target", "path.removesuffix(\"best.json\"), target"),
    ("common/play/select.py", "Mean(one, *row) for one", "Mean(evolutions[0], *row) for one"),
    ("common/training/plan.py", "(one.rnn or {}) | shares | one.more if others", "shares | one.more if others"),
    ("common/training/plan.py", "settings.check_vae(cfg, arguments)", "pass"),
    ("common/training/plan.py", "settings.one_normal(cfg, config.RNN[self.preset])", "pass"),
    ("common/training/plan.py", "if cfg.mirror and not config.SERIES[self.preset].mirror", "if False"),
    ("common/training/launch.py", "                runs.set_aside(place)", "                pass"),
    ("common/training/state.py", 'self._notes["anew"].remove(stage)', 'pass'),
    ("common/training/plan.py", 'if flags is linear and starts:', 'if linear and linear.get("starts"):'),
    ("common/training/plan.py", '"newest": own - held_out', '"newest": own'),
    ("common/training/plan.py", '"explore": one.explore, ', ""),
    ("common/runtime/seeds.py", "REPORT = 430_000", "REPORT = 420_000"),
    ("common/training/iterate.py", "        self._plan.check_flags(range(len(self._lines) + 1, len(self._rounds) + 1))\n", ""),
    ("common/training/plan.py", "self._first_seed = seeds.TRAINING[0] + (seed - 1) * SEEDS_PER_RUN", "self._first_seed = seeds.TRAINING[0]"),
    # worlds
    ("common/worlds/dream.py", "(self._steps >= self._last)", "(self._steps > self._last)"),
    ("common/worlds/dream.py", "(1 - fall) - pay.cost * fall", "(1 - fall)"),
    ("common/worlds/dream.py", "return alive * reward, alive * (1 - fall)", "return reward, alive * (1 - fall)"),
    ("common/worlds/dream.py", "self._dream[on], self._last[on]", "self._dream[: len(on)], self._last[on]"),
    ("common/worlds/dream.py", "self._dream[on], self._last[on]", "self._dream[on], self._last[: len(on)]"),
    ("common/worlds/dream.py", "self.max_steps - age, self._horizon", "self.max_steps, self._horizon"),
    ("common/worlds/dream.py", "tf.where(sound, reward, np.nan)", "reward"),
    ("common/worlds/dream.py", "(logit > own_bar) | ~sound", "(logit > 0) | ~sound"),
    ("common/agent/mdnrnn.py", "math.log(weight) + tf.math.log(uniform)", "tf.math.log(uniform)"),
    ("common/worlds/encoded.py", "self._restart = np.zeros(len(frames), np.float32)", "self._restart = np.ones(len(frames), np.float32)"),
    ("common/worlds/encoded.py", "[self._noise[k] for k in on]", "self._noise[: len(on)]"),
    ("common/worlds/encoded.py", "if self._sample_z:", "if True:"),
    ("common/worlds/gym_envs.py", "self._z, self._h, self._c, self._alive = map(np.array, state)",
     "self._z, _, self._c, self._alive = map(np.array, state)"),
    ("common/worlds/gym_envs.py", "~terminated & (self.age >= self.config.MAX_STEPS)", "self.age >= self.config.MAX_STEPS"),
    ("common/worlds/gym_envs.py", "noise = uniform, normal, self._temperature", "noise = uniform, normal, 1.0"),
    ("common/worlds/gym_envs.py", "load_run(game, folder, unverified)", "load_run(game, folder, False)"),
    ("common/worlds/rollouts.py", "self._policy.keep(on)\n        self._rows = [self._rows[k] for k in on]",
     "self._policy.keep(on)\n        self._rows = self._rows[: len(on)]"),
    ("common/worlds/rollouts.py", "share / (mean_hold * (1 - share) + share)", "share"),
    ("common/worlds/rollouts.py", "row.left = int(row.rng.integers(1, self._max_hold + 1))\n            row.left -= 1",
     "row.left = int(row.rng.integers(1, self._max_hold))\n            row.left -= 1"),
    ("common/worlds/rollouts.py", "returns.std(ddof=1)", "returns.std()"),
    ("common/worlds/games.py", "seen, action = self._frames, np.asarray(action).astype(np.float16)\n        frames, reward, done = self._games.step(action.astype(np.float32))",
     "played, action = action, np.asarray(action).astype(np.float16)\n        seen = self._frames\n        frames, reward, done = self._games.step(played)"),
    ("common/worlds/games.py", "self._steps == self._max_frames", "self._steps > self._max_frames"),
    ("common/worlds/candidates.py", "first : first + block_rows], *settings)", "first : first + block_rows])"),
    ("common/worlds/candidates.py", "outputs = policy.outputs(layers, features_of(mode, z, h, c))",
     'outputs = policy.outputs(layers, features_of("zch", z, h, c))'),
    ("common/worlds/candidates.py", "policy.head.best(outputs)", "policy.head.best(0 * outputs)"),
    ("common/worlds/candidates.py", "self._parameters = tf.gather(self._parameters, on)",
     "self._parameters = self._parameters[: len(on)]"),
    ("common/worlds/candidates.py", "max(1, block_rows // seeds.shape[1])", "max(1, block_rows)"),
    ("common/worlds/candidates.py", "seeds[group, first : first + block_rows]",
     "seeds[:1, first : first + block_rows]"),
    ("common/worlds/encoded.py", "        self.hidden = h\n", "        self.hidden = self.state[1]\n"),
    ("common/worlds/encoded.py", "h, c, self._noise = tf.gather(h, on), tf.gather(c, on),",
     "h, c, self._noise = h[: len(on)], c[: len(on)],"),
    ("common/worlds/encoded.py", "self._restart = np.ones(len(seeds), np.float32)",
     "self._restart = np.zeros(len(seeds), np.float32)"),
    ("common/worlds/encoded.py", "[np.random.default_rng([int(seed), 1]) for seed in seeds]",
     "[np.random.default_rng(int(k)) for k, seed in enumerate(seeds)]"),
    ("common/worlds/encoded.py", "*self.rnn.initial_state(len(seeds)))",
     "*(self.state[1:] if self.state else self.rnn.initial_state(len(seeds))))"),
    ("common/worlds/game_rows.py", "integers(first, last + 1, self.rows)", "integers(first, last, self.rows)"),
    ("common/worlds/game_rows.py", "np.random.default_rng(seed).integers", "np.random.default_rng(0).integers"),
    ("common/worlds/game_rows.py", "self.on, self._steps = np.ones(self.rows, bool), 0",
     "self.on = np.ones(self.rows, bool)"),
    ("common/worlds/game_rows.py", "tuple(part.copy() for part in state), self.on", "state, self.on"),
    ("common/worlds/game_rows.py", "for k in range(0, len(share), most)]",
     "for k in range(0, len(share) - most + 1, most)]"),
    ("common/worlds/game_rows.py", "block.reset(seeds[share])", "block.reset(seeds[: len(share)])"),
    ("common/worlds/games.py", "total[live] += reward", "total[live] = reward"),
    ("common/worlds/games.py", "            if not len(live):\n                break\n", ""),
    ("common/worlds/games.py", "self._games.step(action[live])", "self._games.step(action)"),
    ("common/worlds/games.py", "        if len(seeds) > len(self._games):\n", "        if False:\n"),
    ("common/worlds/games.py", "frames, done = frames[:0], np.ones_like(done)", "done = np.ones_like(done)"),
    ("common/worlds/games.py", "os.dup2(2, 1)", "pass"),
    # recording and reading
    ("common/play/record.py", "keep = len(obs) >= cfg.min_frames", "keep = len(obs) > cfg.min_frames"),
    ("common/play/record.py", "rollouts.Exploring(agent.policy(left), left, cfg.explore,",
     "rollouts.Exploring(agent.policy(left), left, 0.0,"),
    ("common/play/record.py", 'action[:, 0] if game.config.ACTION_SIZE == 1 else action', "action"),
    ("common/play/record.py", "kept = len(episodes) - short - lost", "kept = len(episodes) - short"),
    ("common/play/record.py", "policy = game.random_policies[cfg.policy or next(iter(game.random_policies))]",
     "policy = game.random_policies[next(iter(game.random_policies))]"),
    ("common/play/record.py", "lengths.append), cfg.max_frames or game.config.MAX_STEPS\n",
     "lengths.append), cfg.max_frames\n"),
    ("common/play/record.py", "if lost > 0:", "if False:"),
    ("common/play/record.py", "                batches[backend] = batch  # one", "                pass  # one"),
    ("common/play/record.py", "if last and not finished:", "if last:"),
    ("common/play/record.py", "            for _ in range(_lost(play, episodes, finished)):\n                done(None)",
     "            _lost(play, episodes, finished)"),
    ("common/play/agents.py", '"sha256": self.sha256}', '"sha256": files.sha256(self.path)}'),
    ("common/training/ship.py", "found |= {place for place, inside, _ in", "{place for place, inside, _ in"),
    ("common/training/ship.py", 'line["real"].get("backend") == lines[-1]["real"].get("backend")', "True"),
    ("common/training/trainers.py", 'raise getattr(self._data, "failure", None) or error from None', "raise"),
    ("common/data/recordings.py", "self.failure = error", "pass"),
    ("common/training/plan.py", "if cfg.validation_episodes >= recorded:", "if cfg.validation_episodes > recorded:"),
    ("common/training/plan.py", 'not getattr(rnn_cfg, "heads", True)', "False"),
    ("common/training/plan.py", "if not isinstance(count, int) or count < 0:", "if count < 0:"),
    ("common/training/evolve.py", "if not rising or not all(", "if not all("),
    ("common/worlds/gym_envs.py", "if not self._begun:", "if False:"),
    ("common/worlds/gym_envs.py", "return _loaded(name, folder, unverified, written)", "return _loaded(name, folder, unverified, 0)"),
    ("common/studio/export.py", 'if len(outputs) > 1 and "rule" in exported:', "if False:"),
    ("common/studio/export.py", '+ 1) / 2) ** part["power"]', "+ 1) / 2)"),
    ("common/studio/export.py", "off[best - second < 2 * COARSE] = 0", "pass"),
    ("common/studio/export.py", "off[best - second < 2 * COARSE] = 0", "off[:] = 0"),
    ("common/studio/export.py", "COARSE = 0.02", "COARSE = 0.6"),
    ("common/studio/export.py", ' and about["name"] not in replaced', ""),
    ("common/agent/network.py", "/ 2) ** self.power", "/ 2)"),
    ("common/agent/network.py", "drawn = mean + tf.exp(logstd) * NODES", "drawn = mean + 0 * tf.exp(logstd) * NODES"),
    ("common/agent/network.py", "SHARES /= SHARES.sum()", "SHARES /= 2.5"),
    ("common/agent/network.py", "share ** (1 / self.power) - 1), outputs)", "share - 1), outputs)"),
    ("common/studio/export.py", "stacks += [] if policy.base is None else [_unpacked(linear, under)]", "pass"),
    ("common/play/record.py", "finish, cfg.max_frames or game.config.MAX_STEPS))", "finish, cfg.max_frames))"),
    ("common/play/record.py", "agent.policy(left), left, cfg.explore",
     "agent.policy(left), range(len(left)), cfg.explore"),
    ("common/play/record.py", "game.real_games(cfg.rows, backend, **cfg.rules())",
     "game.real_games(cfg.rows, game.backends[0])"),
    ("common/play/record.py", "workers = cfg.workers or parallel.cores()\n    most",
     "workers = parallel.cores()\n    most"),
    ("common/play/record.py", "Threads(make_worker, cfg.workers or parallel.cores())",
     "Threads(make_worker, parallel.cores())"),
    ("common/play/record.py", "game.config.MAX_STEPS) * most", "game.config.MAX_STEPS)"),
    ("common/play/record.py", "span[0] <= last and cfg.first_seed <= span[-1]", "span[0] <= last and cfg.first_seed < span[-1]"),
    ("common/play/record.py", 'WHEN_DONE = ("workers",)', "WHEN_DONE = MAY_CHANGE"),
    ("common/play/record.py", '(folder, "summary", "begun")', '(folder, "summary")'),
    ("common/data/recordings.py", "key=lambda name: int(name[:-4])", "key=lambda name: name[:-4]"),
    ("common/data/recordings.py", "frames[flipped] = frames[flipped, :, ::-1]", "frames[flipped] = frames[flipped, ::-1]"),
    ("common/data/recordings.py", "{length} {os.path.getsize(path)}", "{length}"),
    ("common/data/recordings.py", "return int(seed) if", "return 0 if"),
    ("common/data/series.py", 'episode.setdefault("done", np.arange(1, frames + 1) == frames)',
     'episode.setdefault("done", np.zeros(frames, bool))'),
    ("common/data/series.py", "(self.action * np.array(factors)).astype", "self.action.astype"),
    ("common/data/series.py", "rows, fresh = index[:, cut], np.full(self.streams, k == 0, np.float32)",
     "rows, fresh = index[:, cut], np.full(self.streams, True, np.float32)"),
    ("common/data/series.py", 'of_all("recording").astype(int)', 'of_all("recording")'),
    ("common/data/series.py", "episodes if name in PER_EPISODE else frames", "frames"),
    ("common/data/series.py", "            files.check_npz(path)\n", ""),
    ("common/data/series.py", 'for name in ("mu", "logvar", "action"):\n            for k',
     'for name in ("mu",):\n            for k'),
    ("common/data/series.py", "len(self.mu) == len(self.logvar) == len(self.action) == self.length.sum()",
     "len(self.mu) == self.length.sum()"),
    ("common/data/recordings.py", 'config["first_seed"] + config["episodes"])',
     'config["first_seed"] + config["episodes"] + 1)'),
    ("common/data/recordings.py", "            left -= own\n", ""),
    ("common/data/recordings.py", '            kept |= {"unverified": True} if about.get("unverified") else {}\n', ""),
    ("common/data/recordings.py", '"training", folder)', '"validation", folder)'),
    ("common/data/recordings.py", '        found.append({"other_seeds": str(error), "unverified": True})\n', ""),
    ("common/data/recordings.py", "max(window, batch_size)", "window"),
    ("common/data/recordings.py", "np.random.default_rng([self.seed, epoch]).permutation",
     "np.random.default_rng(self.seed).permutation"),
    ("common/data/recordings.py", "            except (ValueError, FileNotFoundError) as error:\n",
     "            except FileNotFoundError as error:\n"),
    ("common/data/recordings.py",
     "        if os.path.exists(path):\n            try:\n                _frame_count(path)",
     '        if os.path.exists(path) or os.path.exists(path + ".bad"):\n            try:\n                _frame_count(path)'),
    ("common/data/recordings.py", "counts = collections.Counter(size for size in sizes if size)",
     "counts = collections.Counter(sizes[:1])"),
    # playing and choosing
    ("common/play/play.py", "return dreams(game, loaded, arguments.temperature,", "return dreams(game, loaded, 1.0,"),
    ("common/play/play.py", "world = dreams(game, loaded, arguments.temperature, agent",
     "world = dreams(game, loaded, game.config.TEMPERATURE, agent"),
    ("common/play/play.py", "_policy(game, agent)(np.array([arguments.seed]))", "_policy(game, agent)(np.array([0]))"),
    ("common/play/play.py", "reward, _ = watch(world, policy, arguments.seed, screen, picture)",
     "reward, _ = watch(world, policy, 0, screen, picture)"),
    ("common/play/play.py", "world = dreams(game, agent.models, arguments.temperature, agent",
     "world = dreams(game, agent.models, game.config.TEMPERATURE, agent"),
    ("common/play/play.py", "_, steps = watch(world, policy, arguments.seed, screen, decoded(agent.models))",
     "_, steps = watch(world, policy, 0, screen, decoded(agent.models))"),
    ("common/play/play.py", "    world = dreams(game, loaded, arguments.temperature)\n",
     "    world = dreams(game, loaded, game.config.TEMPERATURE)\n"),
    ("common/play/play.py", "game.keyboard_action), arguments.seed, screen, decoded(loaded))",
     "game.keyboard_action), 0, screen, decoded(loaded))"),
    ("common/play/play.py", "game.keyboard_action), arguments.seed, screen, picture)",
     "game.keyboard_action), 0, screen, picture)"),
    ("common/play/play.py", "video.panels(world.frames[0], seen[0], expected[0])",
     "video.panels(world.frames[0], expected[0], seen[0])"),
    ("common/play/play.py", "        z, h, _ = state\n        mixture", "        z, _, h = state\n        mixture"),
    ("common/play/play.py", "pay, most = game.pay if rnn.shape.heads else None, game", "pay, most = None, game"),
    ("common/play/play.py", "most, pay=pay, end_weight=end_weight, **more)", "most, pay=pay, **more)"),
    ("common/play/play.py", "game.real_games(rows, arguments.backend)", "game.real_games(rows, game.backends[0])"),
    ("common/play/play.py", "game.real_games(1, arguments.backend)", "game.real_games(1, game.backends[0])"),
    ("common/play/play.py", "world = encoded = agent.world(played) if agent else EncodedGames",
     "world = encoded = EncodedGames"),
    ("common/play/play.py", "arguments.backend = game.backend_here(arguments.backend)", "pass"),
    ("common/play/play.py", 'standard error {stderr:.1f}"', 'standard error {std:.1f}"'),
    ("common/play/play.py", '"norender": ("episodes", "out")', '"norender": ("episodes",)'),
    ("common/play/play.py", "    elif arguments.world != dream:\n", "    elif False:\n"),
    ("common/play/play.py", 'EPISODES if arguments.mode == "norender" else 1', "EPISODES"),
    ("common/play/select.py", "key=rank, reverse=True)[:finalists]", "key=rank)[:finalists]"),
    ("common/play/select.py", "score(means[k], more)", "score(means[k], first[: len(more)])"),
    ("common/play/select.py", "np.split(np.array(played), ", "np.split(np.arange(1000, 1000 + episodes), "),
    ("common/play/select.py", "game.real_games(rows, arguments.backend)", "game.real_games(rows, game.backends[0])"),
    ("common/play/select.py", '"best": rounds[best],', '"best": rounds[0],'),
    ("common/play/select.py", "arguments.backend = game.backend_here(arguments.backend)", "pass"),
    ("common/play/planet.py", "game.real_games(rows, parsed.backend)", "game.real_games(rows, game.backends[0])"),
    ("common/play/planet.py", "agent = dataclasses.replace(agent, search=search)", "pass"),
    ("common/play/planet.py", "parsed.backend = game.backend_here(parsed.backend)", "pass"),
    ("common/play/planet.py", "agent.policy(planner, [parsed.seed]), parsed.seed, screen",
     "agent.policy(planner, [parsed.seed]), 0, screen"),
    ("common/play/planet.py", "agent.model.decode(state)[0] + 0.5", "agent.model.decode(state)[0]"),
    ("common/play/planet.py", "game.config.FPS // agent.action_repeat", "game.config.FPS"),
    ("common/play/planet.py", "    play.check_mode(parsed)\n", "    parsed.episodes = parsed.episodes or 100\n"),
    ("common/play/video.py", "make_surface(frame.swapaxes(0, 1))", "make_surface(frame)"),
    ("common/play/video.py", 'for name in ("left", "right", "up", "down", "escape")',
     'for name in ("left", "right", "escape")'),
    ("common/play/fidelity.py", "np.quantile(logits[~died], 1 - FALSE_ALARMS)", "np.quantile(logits, 1 - FALSE_ALARMS)"),
    ("common/play/fidelity.py", "self.died.append(done & (self._steps < self._most))", "self.died.append(done)"),
    ("common/play/fidelity.py", '"drawn" if weight else "threshold"', '"threshold" if weight else "drawn"'),
    ("common/play/fidelity.py", "agent.models, 1.0, weight)", "agent.models, 1.0, weight or 1.0)"),
    ("common/play/fidelity.py", "found[\"expected\"].append(expected(h[t + 1]))", "found[\"expected\"].append(expected(h[t]))"),
    ("common/play/fidelity.py", "tf.constant(action[t]), tf.constant(uniform)", "tf.constant(action[t + 1]), tf.constant(uniform)"),
    ("common/play/fidelity.py", "tf.zeros([len(chosen)])", "tf.ones([len(chosen)])"),
    ("common/play/fidelity.py", "slice(stop - LEAD, stop - LEAD + FOLLOWED + 1)", "slice(stop, stop + FOLLOWED + 1)"),
    ("common/play/fidelity.py", "self._live = self._live[~done]", "self._live = self._live[: len(reward) - done.sum()]"),
    ("common/training/plan.py", "= game.config.RESTART or expects", "= game.config.RESTART"),
    ("common/training/report.py", "elif dreamt - game > more:", "elif game - dreamt > more:"),
    ("common/training/report.py", "(sum(there[name][-2:]) / 2 for name", "(sum(there[name][:2]) / 2 for name"),
    ("common/play/fidelity.py", '"stderr": scores["stderr"]', '"stderr": scores["std"]'),
    ("common/play/agents.py", 'return bool(self.meta["config"].get("sample_z", True))', "return True"),
    ("common/play/agents.py", "(len(seeds), 1)), self.game.action_of)", "(len(seeds), 1)))"),
    ("common/play/agents.py", "self.models.vae, self.models.rnn, self.sample_z)", "self.models.vae, self.models.rnn)"),
    ("common/play/agents.py",
     'game = game.acting_by(loaded.rnn.shape.action_size)\n    if meta["config"].get("o") == "ppo":\n        return',
     'if meta["config"].get("o") == "ppo":\n        return'),
    ("common/play/agents.py", "        made_of.unverified = True\n", ""),
    ("common/play/agents.py", '    made_of.hashes["start_from"] = files.sha256(path)\n', ""),
    ("common/play/agents.py", 'models.find(game, arguments.run), meta | {"unverified": True}',
     "models.find(game, arguments.run), meta"),
    ("common/play/agents.py", "        if parameters.shape != (shape.parameters,):\n", "        if False:\n"),
    ("common/play/agents.py", "return self.models.unverified or provenance", "return provenance"),
    ("common/play/agents.py", "not loaded.goes_on_from(evolved_in)", "False"),
    ("common/play/agents.py", "candidates = [path, os.path.join(run, path), os", "candidates = [path, os"),
    ("common/play/agents.py", 'if inside.startswith("..") else inside', 'if inside.startswith("..") else path'),
    ("common/play/video.py", "width = round(frame.shape[1] * height / frame.shape[0] / 2) * 2",
     "width = round(frame.shape[1] * height / frame.shape[0])"),
    ("common/play/video.py", "check_name(cli.new_file(path))", "cli.new_file(path)"),
    ("common/play/video.py", "check_name(cli.new_file(path))", "check_name(path)"),
    ("common/play/video.py", "    if written != next(numbers):\n        raise broken\n", ""),
    ("common/play/video.py", 'info={"loop": 0}', "info={}"),
    ("common/play/video.py", "if error is KeyboardInterrupt else (error, *rest)", "if error else (error, *rest)"),
    ("common/play/video.py", "return Window(title, fps, path) if has_display() or not path else",
     "return Window(title, fps) if has_display() or not path else"),
    ("common/play/video.py", "    if path or not has_display():\n", "    if not has_display():\n"),
    ("common/training/report.py", "> 2 * math.hypot", "> math.hypot"),
    ("common/training/report.py", "{line['random_games']} + {line['own_games']} games",
     "{line['own_games']} + {line['random_games']} games"),
    ("common/training/report.py", "± {real['stderr']:.1f}", "± {real['mean']:.1f}"),
    ("common/training/report.py", "seen > SURPRISED * expected", "seen > expected"),
    ("common/training/report.py", "if recall < FORESEEN:", "if recall > FORESEEN:"),
    ("common/training/report.py", 'if line.get("fidelity", {}).get("by_logit")', 'if line["fidelity"].get("by_logit")'),
    ("common/training/report.py", 'more = LOST * there["game"][0]', 'more = LOST * there["game"][-1]'),
    ("common/training/report.py", "line['fidelity']['dream']['mean']", "line['fidelity']['real']['mean']"),
    # the studio
    ("common/studio/session.py", "SEEDS = 2000, 499_999", "SEEDS = 1000, 499_999"),
    ("common/studio/session.py", "stage.vae, stage.rnn, stage.sample_z)", "stage.vae, stage.rnn)"),
    ("common/studio/session.py", "self._game.reset([seed])", "self._game.reset([2000])"),
    ("common/studio/session.py", "z, _, _ = self._dream.reset([seed])", "z, _, _ = self._dream.reset([2000])"),
    ("common/studio/session.py", "np.float32(temperature), *noise)", "np.float32(1), *noise)"),
    ("common/studio/session.py", "        self._dreams.temperature = temperature\n", "        pass\n"),
    ("common/studio/session.py", "self._planet.begin(frame, seed)", "self._planet.begin(frame, 2000)"),
    ("common/studio/session.py", "self._dreams.begin([0], [seed], frame)", "self._dreams.begin([0], [seed])"),
    ("common/studio/server.py", "arguments.unverified, arguments.controller)", "arguments.unverified)"),
    ("common/studio/export.py", '"temperature": config.TEMPERATURE', '"temperature": 1.0'),
    ("common/studio/export.py", '"max_steps": config.MAX_STEPS', '"max_steps": 1000'),
    ("common/studio/server.py", 'default="127.0.0.1"', 'default="0.0.0.0"'),
    ("common/studio/server.py", "    if arguments.controller and arguments.game is None:\n", "    if False:\n"),
    ("common/studio/server.py", "frame-ancestors 'none'", ""),
    ("common/studio/server.py", '    "Cache-Control": "no-cache",\n', ""),
    ("common/studio/server.py", ' and not game["lacking"] for', " for"),
    ("common/studio/server.py", "(app, max_body_size=MESSAGE_BYTES)", "(app)"),
    ("common/studio/server.py", "{sockets[0].getsockname()[1]}/ (", "8765/ ("),
    ("common/studio/server.py", "arguments.unverified, arguments.controller)", "True, arguments.controller)"),
    ("common/studio/server.py", "        self._sessions.pop(self, None)\n", "        pass\n"),
    ("common/studio/server.py", "        websocket_max_message_size=MESSAGE_BYTES,\n", ""),
    ("common/studio/server.py", "found[name].folder) for name in found}", '".") for name in found}'),
    # the games
    ("doomrnn/doomreal.py", "game.set_doom_skill(4)", "game.set_doom_skill(5)"),
    ("doomrnn/doomreal.py", "game.set_episode_start_time(14)", "pass"),
    ("doomrnn/doomreal.py", "screen[:100]", "screen"),
    ("doomrnn/doomreal.py", "vizdoom.ScreenFormat.RGB24", "vizdoom.ScreenFormat.BGR24"),
    ("doomrnn/doomreal.py", "LEFT if action < -1 / 3", "LEFT if action < -1 / 2"),
    ("doomrnn/doomreal.py", "LEFT, RIGHT, STAY = [1, 0], [0, 1], [0, 0]", "RIGHT, LEFT, STAY = [1, 0], [0, 1], [0, 0]"),
    ("doomrnn/doomreal.py", "game.set_episode_timeout(config.MAX_STEPS)", "pass"),
    ("doomrnn/doomreal.py", "play.play_game(GAME", "play.play_dream(GAME"),
    ("doomrnn/series.py", "vae_and_rnn.encode(GAME", "vae_and_rnn.train_vae(GAME"),
    ("doomrnn/config.py", "MIRROR: tuple[float, ...] = (-1.0,)", "MIRROR: tuple[float, ...] = (1.0,)"),
    ("doomrnn/config.py", "option(101, ", "option(100, "),
    ("doomrnn/config.py", "hidden_size=512", "hidden_size=256"),
    ("doomrnn/config.py", "CHOICES = ((-1.0,), (0.0,), (1.0,))", "CHOICES = ((1.0,), (0.0,), (-1.0,))"),
    ("doomrnn/game.py", '("right" in keys) - ("left" in keys)', '("left" in keys) - ("right" in keys)'),
    ("doomrnn/game.py", "cfg.max_hold, config.ACTION_LOW, config.ACTION_HIGH",
     "cfg.max_hold, config.ACTION_LOW, (0.0,)"),
    ("carracing/env.py", "LAP_SHARE = 1.0", "LAP_SHARE = 0.95"),
    ("carracing/env.py", "np.array(terminated) | np.array(truncated)", "np.array(terminated)"),
    ("carracing/env.py", "[steering, (gas + 1) / 2, np.clip(brake, 0, 1)]", "[steering, (gas + 1) / 2, (brake + 1) / 2]"),
    ("carracing/env.py", "self._idle = np.where(reward > 0, 0, self._idle + 1)", "self._idle = self._idle + 1"),
    ("carracing/env.py", "0.1 * (self._max_steps - self._steps)", "0.1 * self._max_steps"),
    ("carracing/env.py", "np.maximum(pedals, 0), np.maximum(-pedals, 0)]", "np.maximum(pedals, 0), np.abs(pedals)]"),
    ("carracing/env.py", "            lap_complete_percent=LAP_SHARE,\n        )\n        return self._pool",
     "        )\n        return self._pool"),
    ("carracing/env.py", "        return cars_here(backend, **rules)\n", "        return cars_here(backend)\n"),
    ("carracing/env.py", "functools.partial(cars_here, backend, **rules)", "functools.partial(cars_here, backend)"),
    ("carracing/env.py", "PythonTracks(game, random_start), **rules)", "PythonTracks(game), **rules)"),
    ("carracing/env.py", "game.reset(seed=arguments.seed)", "game.reset(seed=0)"),
    ("carracing/env.py", "while not done and steps < config.MAX_STEPS", "while not done"),
    ("carracing/game.py", '"MIRROR": (-1.0, 1.0)}', '"MIRROR": (-1.0, -1.0)}'),
    ("carracing/game.py", "keyboard_action=env.two_axes", "keyboard_action=env.keyboard_action"),
    ("carracing/game.py", "rng.uniform(0, CAUCHY_STDEV)", "rng.uniform(0, 10 * CAUCHY_STDEV)"),
    ("carracing/game.py", "    backend_here=env.available,\n", ""),
    ("carracing/game.py", "part[k : k + cfg.rows]) for", "part[k : k + 1]) for"),
    ("carracing/game.py", "np.tanh(self._weights[:, 0] + np.einsum", "np.tanh(np.einsum"),
    ("carracing/game.py", "        return action\n\n    def keep", "        return self._action\n\n    def keep"),
    ("carracing/pick_best.py", "from carracing.game import GAME", "from doomrnn.game import GAME"),
    ("carracing/dream_model.py", "play.watch_dream(GAME", "play.main(GAME"),
    ("carracing/dream_env.py", "play.play_dream(GAME", "play.play_game(GAME"),
    ("carracing/config.py", "MIRROR: tuple[float, ...] = (-1.0, 1.0, 1.0)",
     "MIRROR: tuple[float, ...] = (1.0, 1.0, 1.0)"),
    ("carracing/config.py", "TEMPERATURE = 0.7", "TEMPERATURE = 1.0"),
    ("carracing/config.py", 'option("envpool", "the implementation of the game", choices=("gymnasium", "gym", "envpool", "draft"))',
     'option("draft", "the implementation of the game", choices=("gymnasium", "gym", "envpool", "draft"))'),
    ("common/game.py", "self.name if world == self.usual_world else", "self.name if world != self.usual_world else"),
    ("common/game.py", 'name = "PPO_GAME" if world == "game" else "PPO"', 'name = "PPO"'),
    ("common/game.py", '        if not hasattr(self.config, name):\n            raise UserError(f"--world',
     '        if False:\n            raise UserError(f"--world'),
    ("common/game.py", "        if size not in known:\n", "        if False:\n"),
    ("common/game.py", '        if not hasattr(self.config, "PAY"):\n', "        if False:\n"),
    ("common/game.py", "if name.isidentifier() and all(has)", "if all(has)"),
    ("common/game.py", "if name.isidentifier() and all(has)", "if name.isidentifier() and any(has)"),
    ("common/game.py", "dict.fromkeys((ROOT, os.getcwd()))", "(ROOT,)"),
    ("common/game.py", "for game in (self, *([fewer] if fewer else []))}",
     "for game in (*([fewer] if fewer else []), self)}"),
    ("common/game.py", "return next(iter(self.config.TRAIN.values())).world", 'return "dream"'),
    # provenance, files, seeds
    ("common/runtime/interrupt.py", '" without --fresh" * ("--fresh" in sys.argv)', '""'),
    ("common/runtime/provenance.py", "if text != _text(meta):", "if False:"),
    ("common/runtime/provenance.py", 'if meta.get("sha256") != files.sha256(path):', "if False:"),
    ("common/runtime/provenance.py", "self.unverified |= any_unverified(meta)", "pass"),
    ("common/runtime/parallel.py", "patience * 2 ** attempts[k]", "patience"),
    ("common/runtime/runs.py", "step, self._seconds_before = int", "step, _ = int"),
    ("common/runtime/devices.py", "    keras.utils.set_random_seed(seed)\n", "    pass\n"),
    ("common/runtime/devices.py", "return 1 if rows % 2 or", "return 1 if rows or"),
    ("common/runtime/bound.py",
     "        if os.getppid() != parent:\n            os.kill(os.getpid(), signal.SIGKILL)\n",
     ""),
    ("common/runtime/bound.py", "ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)", "pass"),
    ("common/runtime/bound.py", "        signal.signal(signal.SIGINT, signal.SIG_IGN)\n", ""),
    ("common/runtime/bound.py", '*["--deaf"] * deaf, ', ""),
    ("common/runtime/cli.py", "limit = kind(text), min(most, LARGEST if", "limit = kind(text), max(most, LARGEST if"),
    ("common/runtime/cli.py", 'number(type(value), least, field.metadata["most"])', "number(type(value), least)"),
    ("common/runtime/cli.py", "LARGEST if kind is int else LARGEST_FLOAT)", "LARGEST if kind is int else most)"),
    ("common/runtime/cli.py", "    sys.argv[0] = program\n", ""),
    ("common/runtime/cli.py", 'found.append(f"--{flag}" if value else f"--no-{flag}")', 'found.append(f"--{flag}")'),
    ("common/runtime/cli.py", "allow_abbrev=False, ", ""),
    ("common/runtime/cli.py", "default=argparse.SUPPRESS, help=text", "default=value, help=text"),
    ("common/runtime/cli.py", "sys.exit(_said(error, 2))", "sys.exit(_said(error, 1))"),
    ("common/runtime/cli.py", "            if error.errno not in OUTSIDE:\n                raise\n", ""),
    ("common/runtime/cli.py", "names.append(name)\n    trial", "pass\n    trial"),
    ("common/runtime/devices.py", ' and not tf.config.get_visible_devices("GPU")', ""),
    ("common/runtime/devices.py", 'rows % 2 or tf.config.list_physical_devices("GPU")', "rows % 2"),
    ("common/runtime/devices.py",
     '    gpus = tf.config.list_physical_devices("GPU")\n    for gpu in gpus:\n        tf.config.experimental.set_memory_growth(gpu, True)\n',
     '    gpus = tf.config.list_physical_devices("GPU")\n'),
    ("common/runtime/devices.py", "if blocks and not gpus:", "if blocks:"),
    ("common/runtime/devices.py", '    if not gpus:\n        tf.config.set_visible_devices([], "GPU")\n', ""),
    ("common/runtime/devices.py", "set_intra_op_parallelism_threads(1)",
     "set_intra_op_parallelism_threads(parallel.cores())"),
    ("common/runtime/devices.py", "set_inter_op_parallelism_threads(parallel.cores())",
     "set_inter_op_parallelism_threads(1)"),
    ("common/runtime/devices.py", "MirroredStrategy() if len(gpus) > 1", "MirroredStrategy() if len(gpus) > 2"),
    ("common/runtime/files.py", 'temporary = f"{path}.tmp{os.getpid()}"', "temporary = path"),
    ("common/runtime/files.py", "np.load(path, allow_pickle=False)", "np.load(path, allow_pickle=True)"),
    ("common/runtime/files.py", 'r"\\.tmp\\d+$", name)', 'r"\\.tmp", name)'),
    ("common/runtime/files.py", "if name.startswith(prefix) and re", "if re"),
    ("common/runtime/files.py",
     "archive.files if only is None else only)}\n    except (FileNotFoundError, PermissionError, MemoryError):",
     "archive.files if only is None else only)}\n    except FileNotFoundError:"),
    ("common/runtime/files.py", "error.filename in (None, temporary)", "error.filename is None"),
    ("common/runtime/files.py", "    if os.path.getsize(path) > limit:\n", "    if False:\n"),
    ("common/runtime/files.py", "        with contextlib.suppress(OSError):  # it is not there, or cannot be",
     "        with contextlib.suppress(FileNotFoundError):"),
    ("common/runtime/interrupt.py", "threading.current_thread() == threading.main_thread() and ", ""),
    ("common/runtime/interrupt.py", "        while heard and heard[0] != signal.SIGINT:\n            heard =",
     "        if True:\n            heard ="),
    ("common/runtime/interrupt.py", "signal.SIG_BLOCK, {signal.SIGINT})", "signal.SIG_BLOCK, ())"),
    ("common/runtime/interrupt.py", "        signal.pthread_sigmask(signal.SIG_SETMASK, before)\n", "        pass\n"),
    ("common/runtime/interrupt.py", "            if not noticed.is_set():\n", "            if True:\n"),
    ("common/runtime/interrupt.py", "            signal.set_wakeup_fd(descriptor)\n", ""),
    ("common/runtime/interrupt.py", "        _interrupted.set()\n", ""),
    ("common/runtime/mpi.py", "limit = max(LEAST, 10 * self._slowest) if", "limit = LEAST if"),
    ("common/runtime/mpi.py", "if rank in self._warm else PATIENCE", "if True else PATIENCE"),
    ("common/runtime/mpi.py", "                del out[rank]\n", "                pass\n"),
    ("common/runtime/mpi.py", "            threading.Thread(target=_live, daemon=True).start()\n", ""),
    ("common/runtime/mpi.py", "(STARTING if pulse == began else SILENT)", "SILENT"),
    ("common/runtime/mpi.py", "        if rank in self._warm:\n            self._slowest",
     "        if True:\n            self._slowest"),
    ("common/runtime/mpi.py", "if number == self._round:", "if True:"),
    ("common/runtime/mpi.py", '[word for word in command if word != "--fresh"], RESTARTS', "command, RESTARTS"),
    ("common/runtime/parallel.py", "isinstance(trouble, UserError | OSError)", "isinstance(trouble, UserError)"),
    ("common/runtime/parallel.py", "len(os.sched_getaffinity(0)) if", "os.cpu_count() if"),
    ("common/runtime/parallel.py",
     "        with interrupt.not_for_children():  # Ctrl-C is for the process that asks\n            self._process.start()",
     "        self._process.start()"),
    ("common/runtime/parallel.py", "    bound.bind(parent)\n", ""),
    ("common/runtime/parallel.py", "if free < least:", "if free > least:"),
    ("common/runtime/parallel.py", "if last and not succeeded:", "if last:"),
    ("common/runtime/parallel.py", "last = attempts >= ATTEMPTS", "last = attempts > ATTEMPTS"),
    ("common/runtime/parallel.py", "            for future in futures:\n                future.cancel()\n", ""),
    ("common/runtime/parallel.py", "        multiprocessing.resource_tracker.ensure_running()  # or", "        # or"),
    ("common/runtime/provenance.py", "        os.remove(path + ENDING)\n", "        pass\n"),
    ("common/runtime/provenance.py", 'for ending in ("", ENDING):', 'for ending in ("",):'),
    ("common/runtime/provenance.py", 'config.get("seed_start", config.get("first_seed"))', 'config.get("first_seed")'),
    ("common/runtime/provenance.py", "with files.atomic(path + ENDING) as file:",
     'with open(path + ENDING, "wb") as file:'),
    ("common/runtime/provenance.py", "[os.path.basename(sys.argv[0]), *sys.argv[1:]]", "list(sys.argv)"),
    ("common/runtime/provenance.py", '(meta.get("kind"), meta.get("game")) != (kind, game)',
     'meta.get("kind") != kind'),
    ("common/runtime/provenance.py", "return any(meta.get(", "return all(meta.get("),
    ("common/runtime/provenance.py", ' | ({"unverified": True} if unverified else {}))', ")"),
    ("common/runtime/runs.py", "compresslevel=0, step=step, **arrays)\n        self._saved_at = time.monotonic()",
     "compresslevel=0, step=step, **arrays)"),
    ("common/runtime/runs.py", "_step_of(line) != step or name not in", "_step_of(line) != step and name not in"),
    ("common/runtime/runs.py", "return not arguments.fresh and os.path", "return os.path"),
    ("common/runtime/runs.py", " and os.path.exists(path + provenance.ENDING)\n\n\nclass", "\n\n\nclass"),
    ("common/runtime/runs.py", "        self._check_made_here()\n", ""),
    ("common/runtime/runs.py", 'unit = 1 if sys.platform == "darwin" else 1024',
     'unit = 1024 if sys.platform == "darwin" else 1'),
    ("common/runtime/runs.py", "int(line.split()[1]) * 1024 / 1e9", "int(line.split()[1]) / 1e9"),
    ("common/runtime/runs.py", "            time.sleep(0.1)  # ranks of a job that was killed take a moment to die\n",
     "            break\n"),
    ("common/runtime/runs.py", "initial=done, ", ""),
    ("common/runtime/runs.py", "live = sys.stderr.isatty()", "live = True"),
    ("common/runtime/runs.py", "self.keep_metrics(lambda line: _step_of(line) <= step)",
     "self.keep_metrics(lambda line: _step_of(line) < step)"),
    ("common/runtime/runs.py", "        for folder in missing:\n", "        for folder in missing[:1]:\n"),
    ("common/runtime/runs.py", '        held = lock(os.path.join(folder, "lock"))\n    files', "    files"),
    ("common/runtime/seeds.py", "seeds = [seeds[0], seeds[-1]] if", "seeds = [seeds[0]] if"),
    ("common/runtime/seeds.py", "array.min() < first or array.max() > last",
     "array.max() < first or array.min() > last"),
    ("common/runtime/seeds.py", "VALIDATION = (400_000, 499_999)", "VALIDATION = (400_000, 500_000)"),
    ("common/runtime/seeds.py", "REAL_GAMES = 420_000", "REAL_GAMES = 400_000"),
    ("common/runtime/seeds.py", "    return all(TEST[0]", "    return any(TEST[0]"),
    ("common/runtime/settings.py", "return replace(cfg, mixtures=1)", "return cfg"),
    ("common/runtime/settings.py", "if cfg.mixtures not in (1, preset.mixtures):", "if False:"),
    ("common/runtime/settings.py", 'if not cfg.gan and "gan_judgment" in arguments:',
     'if cfg.gan and "gan_judgment" in arguments:'),
    ("common/runtime/settings.py", "if cfg.gan and cfg.rare_pixels:", "if False:"),
    ("common/runtime/settings.py", "if getattr(cfg, flag) and cfg.batch_size < 2:", "if False:"),
    ("common/runtime/settings.py", "any(not 1 <= unit <= MOST_UNITS", "any(not 0 <= unit <= MOST_UNITS"),
    ("common/runtime/settings.py", 'hidden.split(",") if part)', 'hidden.split(","))'),
    ("common/runtime/settings.py",
     'first_seed: int = option(2000, "seed of the first episode, from 2000 to 399999", least=2000, most=399_999)\n    policy',
     'first_seed: int = option(1000, "seed of the first episode, from 2000 to 399999", least=1000, most=399_999)\n    policy'),
    # rounds, and what of them ships
    ("common/training/iterate.py", "max(10, one.games // 2)", "10"),
    ("common/training/plan.py", "own, usual = sum(earlier.own for earlier in self.rounds[:number])",
     "own, usual = one.own"),
    ("common/training/plan.py", 'usual[self.preset].validation_episodes',
     'usual["laptop"].validation_episodes'),
    ("common/training/plan.py", 'return _continued(number, vae, start) | {"seed": self.seed}',
     'return vae | {"seed": self.seed}'),
    ("common/training/plan.py", "if one.random or one.own or one.vae is not None)", "if one.random or one.own)"),
    ("common/training/report.py", 'if int(name.split("/")[0]) <= number) / 60',
     'if int(name.split("/")[0]) == number) / 60'),
    ("common/training/report.py", 'meta.get("score", {}).get("of") == "dream" else None',
     '"mean" in meta.get("score", {}) else None'),
    ("common/training/iterate.py", "cli.number(int, 1, RUNS)", "cli.number(int, 1)"),
    ("common/training/plan.py", "(seeds.RECORDED - seeds.TRAINING[0])", "(seeds.TRAINING[1] + 1 - seeds.TRAINING[0])"),
    ("common/training/iterate.py", 'in ("preset", "seed", "edited"):', 'in ("preset", "edited"):'),
    ("common/training/iterate.py", 'usual = "laptop" if "laptop" in presets else next(iter(presets))',
     "usual = next(iter(presets))"),
    ("common/training/launch.py", 'self._state.note_time(stage, before + time.monotonic() - began, memory_gb)',
     'self._state.note_time(stage, time.monotonic() - began, memory_gb)'),
    ("common/training/iterate.py", "        if self._plan.comparable:\n", "        if True:\n"),
    ("common/training/plan.py", 'flags.get("starts", getattr(cfg, "starts", 0))', 'flags.get("starts", 0)'),
    ("common/training/report.py", "axes.errorbar(minutes, means, errors,", "axes.errorbar(means, minutes, errors,"),
    ("common/training/ship.py", 'if cfg is not None and cfg.linear is not None and "linear" not in best_of(lines):',
     "if False:"),
    ("common/training/ship.py", "        _check_chain(game, run, pairs, path)\n",
     '        _check_chain(game, run, pairs, picked["agent"])\n'),
    ("common/training/ship.py", '- line["real"]["stderr"], line["round"]))',
     '- line["real"]["stderr"], -line["round"]))'),
    ("common/training/ship.py", 'if files.sha256(path) != scored[name].get("controller"):',
     'if name == "agent" and files.sha256(path) != scored[name].get("controller"):'),
    ("common/training/ship.py", 'if not saved["state_episodes"] == saved["state_validated"] >= episodes:', "if False:"),
    ("common/training/ship.py", 'raise UserError(f"{source}: was made from files that were not verified")', "pass"),
    ("common/training/ship.py", "for place in (run, *told) for name in", "for place in (run,) for name in"),
    ("common/training/planet.py", "with runs.new_run(arguments.run):  # an error leaves no trace", "if True:"),
    # the record of an evolution
    ("common/training/evolution.py", "self._seconds_before = self.hist[-1][1] if self.hist else 0.0", "pass"),
    ("common/training/evolution.py", "        self._stage.forget_metrics_after(self.generation)\n", ""),
    ("common/training/evolution.py", "es__return_min=least, es__return_max=most",
     "es__return_min=most, es__return_max=least"),
    ("common/training/evolution.py", "es__evaluation=score", "es__evaluation=self._best[1] if self._best else score"),
    ("common/training/evolution.py", '("entropy", "value_loss", "tether", "moved")]',
     '("value_loss", "entropy", "tether", "moved")]'),
    ("common/training/evolution.py", "round(mean, 2), *learned, before + steps]", "round(mean, 2), *learned, steps]"),
    ("common/training/evolution.py", 'score={"of": self._score_of})', 'score={"of": "dream"})'),
    ("common/training/evolution.py", 'about = {"of": self._score_of, "mean"', 'about = {"of": "dream", "mean"'),
    ("common/training/evolution.py", '"controller", generation=generation, score=about)', '"controller", score=about)'),
    ("common/training/evolution.py", '"unverified": self._unverified}', '"unverified": False}'),
    # the search and its ranks
    ("common/training/evolve.py", "            run.save_if_due()\n", ""),
    ("common/training/evolve.py", '{cfg.num_episode}.{cfg.n * cfg.t}"', '{cfg.num_episode}.{cfg.t}"'),
    ("common/training/evolve.py", "(cfg.n * cfg.t // groups, 1)", "(cfg.t // groups, 1)"),
    ("common/training/evolve.py", "starts[which], dropout)", "starts[0], dropout)"),
    ("common/training/evolve.py", "starts[which], dropout)", "starts[which])"),
    ("common/training/evolve.py", "world, played = self._make_world(False), es.DIRECTION_SEEDS",
     "world, played = self._make_world(self._hurried), es.DIRECTION_SEEDS"),
    ("common/training/es.py", "    popsize = cfg.n * cfg.t\n", "    popsize = cfg.t\n"),
    ("common/training/es.py", 'cfg.o in ("openes", "pepg") else ()', 'cfg.o == "openes" else ()'),
    ("common/training/es.py", "(cfg.directions + controller.bias) * controller.action_size",
     "cfg.directions * controller.action_size"),
    ("common/training/es.py", "np.argsort(_weight_cost(self._asked) - finite,", "np.argsort(-finite,"),
    ("common/training/es.py", "np.mean(self._elites.var(axis=0)) + self._sigma**2", "self._sigma**2"),
    # what the policy gradient learns in, and from
    ("common/training/ppo.py", "np.random.default_rng([cfg.seed_start, 6])", "np.random.default_rng([0, 6])"),
    ("common/training/ppo.py", "world.start(tf.constant([cfg.seed_start, -1]))", "world.start(tf.constant([0, -1]))"),
    ("common/training/ppo.py", 'key = tf.random.fold_in(tf.stack([s.seed_start, 7]), v["update"])',
     "key = tf.random.fold_in(tf.stack([s.seed_start, 7]), 0)"),
    ("common/training/ppo.py", "for k in (t // hold, t))", "for k in (t // hold, 0))"),
    ("common/training/ppo.py", "for k in (t // hold, t))", "for k in (0, t))"),
    ("common/training/ppo.py", "order[first + b : last : s.blocks]", "order[first : last : s.blocks]"),
    ("common/training/ppo.py", "(tf.reduce_mean(tf.stack(x), axis=0) for x", "(tf.reduce_sum(tf.stack(x), axis=0) for x"),
    ("common/training/ppo.py", "values[-1], s.discount, s.gae_lambda, data.cut)",
     "values[-1], s.gae_lambda, s.discount, data.cut)"),
    ("common/training/ppo.py", "standardized(advantage, teaches), advantage + values[:-1]", "standardized(advantage, teaches), advantage"),
    ("common/training/ppo.py", "self._cfg.reward_scale * reward, done, cut", "reward, done, cut"),
    ("common/training/ppo.py", "tf.reduce_mean(reward) / s.reward_scale", "tf.reduce_mean(reward)"),
    ("common/training/ppo.py", "1 - s.clip, 1 + s.clip)", "0.8, 1.2)"),
    ("common/training/ppo.py", "gradient *= MOST_NORM / tf.maximum(tf.norm(gradient), MOST_NORM)", "pass"),
    ("common/training/ppo.py", "weight = tf.cast(played, tf.float32), 1 / tf.cast(update + 1, tf.float32)",
     "weight = tf.cast(played, tf.float32), 1.0"),
    ("common/training/policy_gradient.py", "cfg.learning_rate, cfg.tether)", "cfg.learning_rate)"),
    ("common/training/policy_gradient.py", "game.pay if loaded.rnn.shape.heads else None,\n        cfg.horizon,",
     "game.pay if loaded.rnn.shape.heads else None,\n        0,"),
    ("common/training/policy_gradient.py", "backend=game.backend_here(cfg.backend)", "backend=cfg.backend"),
    ("common/training/policy_gradient.py", 'metrics["reward"] if loaded.rnn.shape.heads else 1', "1"),
    ("common/training/dreams.py", "spans[-cfg.start_games :]", "spans[: cfg.start_games]"),
    ("common/training/dreams.py", "return [tensor_dreams.at_places(rnn, games,",
     "return [tensor_dreams.at_places(rnns[0], games,"),
    ("common/training/dreams.py", "cfg.starts, cfg.seed_start)", "cfg.starts, 0)"),
    ("common/training/dreams.py", '"starts": pool, "horizon": cfg.horizon}', '"starts": pool}'),
    # what the trainers hand on
    ("common/training/trainers.py", "self._stage.save_if_due(step, self._variables, source=self._source, **self._state())",
     "self._stage.save_if_due(step, self._variables, source=self._source)"),
    ("common/training/trainers.py", "self._stage.save_if_due(step, self._variables, source=self._source, **self._state())",
     "self._stage.save_if_due(step, self._variables, **self._state())"),
    ("common/training/trainers.py", "devices.for_training(cfg.seed, blocks)", "devices.for_training(0, blocks)"),
    ("common/training/trainers.py", "self.strategy, cfg.rare_pixels)", "self.strategy)"),
    ("common/training/trainers.py", "restart_weight, cfg.dropout, pay", "restart_weight, 0.0, pay"),
    ("common/training/trainers.py", 'getattr(cfg, "restart_z", False)', "False"),
    ("common/training/trainers.py", "np.array([t == 0], np.float32)", "np.zeros(1, np.float32)"),
    ("common/training/trainers.py", "action[t : t + 1]", "action[:1]"),
    ("common/training/trainers.py", "np.array(self.model.decode(mu))]", "np.array(frames) / np.float32(255)]"),
    ("common/training/gan.py", "self.cfg.gan_judgment * ramp(", "0.3 * ramp("),
    ("common/training/gan.py", "ramp(step - 1, self.cfg.steps)", "1.0"),
    ("common/training/gan.py", "self._clock, beta_1=0.5)", "self._clock)"),
    ("common/training/vae_and_rnn.py", "cfg.batch_size, cfg.seed, mirror", "cfg.batch_size, 0, mirror"),
    ("common/training/vae_and_rnn.py", "        weights.vae_start_from(path, trainer.model)\n", ""),
    ("common/training/vae_and_rnn.py", "if not os.path.exists(path) and runs.is_made(*place) and", "if False and"),
    ("common/training/vae_and_rnn.py", "nothing_new = not recordings.are_in(folder) and", "nothing_new = False and"),
    ("common/training/vae_and_rnn.py", '    if runs.is_made(arguments, "tf_rnn", "rnn.json"):\n        return', "    if True:\n        return"),
    ("common/training/vae_and_rnn.py", "trainer.resume(stage, frames, _source(frames.source, parents))",
     "trainer.resume(stage, frames, frames.source)"),
    ("common/training/vae_and_rnn.py", "cfg.episodes_per_part, cfg.mirror)", "cfg.episodes_per_part, False)"),
    ("common/training/vae_and_rnn.py", "old, new = map(mirrored, known.split",
     "old, new = map(lambda part: part, known.split"),
    ("common/training/vae_and_rnn.py", "return series.StreamBatches(mirrored(known), cfg.streams, cfg.sequence_length, cfg.seed, cfg.heads)",
     "return series.StreamBatches(known, cfg.streams, cfg.sequence_length, cfg.seed, cfg.heads)"),
    ("common/training/vae_and_rnn.py", "cfg.streams, cfg.sequence_length, cfg.seed, cfg.heads)\n    old,",
     "cfg.streams, cfg.sequence_length, 0, cfg.heads)\n    old,"),
    ("common/training/vae_and_rnn.py", "MixedBatches(old, new, cfg.newest_share,", "MixedBatches(old, new, 0.5,"),
    ("common/training/vae_and_rnn.py", 'return [parents["start_from"], *meta.get("trained_on_from", [])]',
     'return [parents["start_from"]]'),
    ("common/training/evolve.py", "cfg = dataclasses.replace(cfg, backend=game.backend_here(cfg.backend))", "pass"),
    ("common/training/evolve.py", "return mean, shape.principal_directions",
     "return 0 * mean, shape.principal_directions"),
    ("common/training/evolve.py", "shape.principal_directions(arena.features(mean),",
     "shape.principal_directions(arena.features(0 * mean),"),
    ("common/training/evolve.py", "agents.controller_on(game, loaded.rnn, cfg.controller_mode)",
     "agents.controller_on(game, loaded.rnn)"),
    # PlaNet's loop, and the models
    ("common/training/planet.py", "make = game.random_policies[cfg.policy or next(iter(game.random_policies))]",
     "make = game.random_policies[next(iter(game.random_policies))]"),
    ("common/training/planet.py", "recording = game.config.EXTRACT[arguments.preset]",
     "recording = next(iter(game.config.EXTRACT.values()))"),
    ("common/training/planet.py", "cfg = dataclasses.replace(cfg, backend=game.backend_here(cfg.backend))", "pass"),
    ("common/training/planet.py", "policy = self._agent.policy(self._planner, episodes, cfg.noise, self",
     "policy = self._agent.policy(self._planner, episodes, 0.0, self"),
    ("common/training/planet.py", "self._agent.policy(self._planner, episodes), episodes)",
     "self._agent.policy(self._planner, episodes, cfg.noise), episodes)"),
    ("common/training/planet.py", "self._agent.planner(cfg.seed)", "self._agent.planner()"),
    ("common/training/planet.py", "np.random.default_rng([cfg.seed, self.step])",
     "np.random.default_rng([cfg.seed, 0])"),
    ("common/training/planet.py", "np.array([cfg.seed, 4 * self.step], np.int32)",
     "np.array([cfg.seed, self.step], np.int32)"),
    ("common/training/planet.py", ", global_clipnorm=cfg.clip)", ")"),
    ("common/training/planet.py", "(cfg.learning_rate, epsilon=cfg.epsilon,", "(cfg.learning_rate,"),
    ("common/training/planet.py", "round(cfg.decoded_share * frames)", "round(frames)"),
    ("common/training/planet.py", "return Search(**{field.name: getattr(cfg, field.name) for", "return Search(**{field.name: field.default for"),
    ("common/training/planet.py", "cfg.noise, self.episodes)", "cfg.noise)"),
    ("common/training/planet.py", "config.MIRROR if cfg.mirror else None", "None"),
    ("common/data/replay.py", "action[:, row] *= self._mirror", "pass"),
    ("common/data/replay.py", "rng.random() < 0.5:", "rng.random() < 0:"),
    ("common/agent/planner.py", "1 if search.shared_noise else search.candidates", "search.candidates"),
    ("common/agent/planner.py", "search.hold, axis=1)[:, : search.horizon]", "search.hold, axis=1)[:, -search.horizon :]"),
    ("common/agent/planner.py", "self._seed + seed_offset, step", "self._seed, step"),
    ("common/agent/rssm.py", "rarity(plain, seen)", "rarity(plain)"),
    ("common/agent/rssm.py", "squares *= 1 + cfg.rare_pixels", "squares *= 1 + 0"),
    ("common/training/planet.py", '"head", "depth", "paths")', '"head", "depth")'),
    ("common/training/planet.py", "cfg.action_repeat, cfg.reward_limit, cfg.memory_frames, mirror",
     "cfg.action_repeat, 10.0, cfg.memory_frames, mirror"),
    ("common/training/planet.py", 'if score["mean"] > self.best or', 'if score["mean"] >= self.best or'),
    ("common/agent/models.py", '            metas[name] = metas[name] | {"unverified": True}\n', ""),
    ("common/agent/models.py", '*meta.get("trained_on_from", ())]', "]"),
    ("common/agent/models.py", '({"unverified": True} if self.unverified else {})', "{}"),
    ("common/agent/planner.py", "seed + [0, iteration])", "seed)"),
    ("common/agent/planner.py", "tf.constant([self._seed + seed_offset, step * 1000], tf.int32)",
     "tf.constant([self._seed + seed_offset, step], tf.int32)"),
    ("common/agent/planner.py", "tf.constant([self._seed + seed_offset, step * 1000], tf.int32)",
     "tf.constant([seed_offset, step * 1000], tf.int32)"),
    ("common/agent/planner.py", "np.array(low, np.float32)) / 2", "np.array(low, np.float32))"),
    ("common/agent/planner.py", "self._start = np.clip(np.zeros(len(low), np.float32), low, high)",
     "self._start = (np.float32(low) + np.float32(high)) / 2"),
    ("common/agent/controller.py", "power.max() * max(read.shape) * np.finfo(float).eps", "0"),
    ("common/agent/controller.py", "read.mean(axis=0) * self.bias", "read.mean(axis=0)"),
    ("common/agent/network.py", "rng.standard_normal(inputs * outputs) / np.sqrt(inputs)]",
     "rng.standard_normal(inputs * outputs)]"),
    ("common/agent/network.py", "[1.0] * (len(self.layers) - 1) + [last]", "[1.0] * len(self.layers)"),
    ("common/agent/network.py", "return LINEAR_SHARPNESS * tf.concat", "return tf.concat"),
    ("common/agent/network.py", "u = tf.tanh(tf.matmul(read, weight) + bias)", "u = tf.tanh(tf.matmul(read, weight))"),
    ("common/agent/mdnrnn.py", "tf.random.fold_in(seed, k) if k else seed)", "seed)"),
    ("common/agent/rssm.py", 'self.biases["gru_x"].assign([1.0] * (2 * shape.memory) + [0.0] * shape.memory)', "pass"),
    ("common/agent/rssm.py", "plain, target = image_of(target), image_of(target, tf.random.stateless_uniform(tf.shape(target), seed))",
     "plain = target = image_of(target)"),
    ("common/agent/planet.py", "for path in (own, shipped) if", "for path in (shipped, own) if"),
    # rnn_train.py
    ("common/training/vae_and_rnn.py", "config.RESTART, cfg.mixtures, cfg.heads)", "config.RESTART, heads=cfg.heads)"),
    ("common/training/vae_and_rnn.py", "*data.initial_z())", "*known.initial_z())"),
    ("common/training/vae_and_rnn.py", "parents, unverified, trained_on_from=trained_on_from)", "parents, unverified)"),
    # what a preset or a command hands on
    ("carracing/env.py", 'BACKENDS = ("gymnasium", "gym", "envpool", "draft")', 'BACKENDS = ("envpool", "gymnasium", "gym", "draft")'),
    ("common/training/policy_gradient.py", "rnns * copies,", "[loaded.rnn] * len(rnns) * copies,"),
    ("common/training/policy_gradient.py",
     "[pool or first for pool, first in zip(pools, first_frames, strict=True)] * copies,", "first_frames * copies,"),
    ("common/training/policy_gradient.py", "loaded.rnn, pools[0])", "loaded.rnn, None)"),
    ("common/worlds/tensor_dreams.py", "self.models[k], self._weights[k], state", "self.models[k], self._weights[0], state"),
    ("common/worlds/tensor_dreams.py", "self._beginnings(self._starts[k], ", "self._beginnings(self._starts[0], "),
    ("carracing/config.py", 'patience=100,\n        sample_z=False,\n        generations=200',
     'patience=100,\n        sample_z=True,\n        generations=200'),
    ("doomrnn/config.py", "replace(RNN_PAPER, restart_z=False, dropout=0.1)", "replace(RNN_PAPER, dropout=0.1)"),
    ("doomrnn/config.py", "own_share=0.6,", "own_share=0.4,"),
    ("doomrnn/config.py", 'record={"min_frames": 0},', "record={},"),
    ("doomrnn/config.py", "ships=1,", "ships=0,"),
    ("common/training/dreams.py", "if rnns[-1].shape != own:", "if False:"),
    ("bench/policy_gradient.py", "self._game.config.SHIPPED[1]", "self._game.config.SHIPPED[0]"),
    ("bench/gradient_or_evolution.py", '"dream", "--start_games", RECORDED, "--horizon", 300', '"dream", "--start_games", RECORDED, "--horizon", 100'),
    ("bench/gradient_or_evolution.py", '"--run", own, "-s", seed, *METHODS', '"--run", own, "-s", 0, *METHODS'),
    ("bench/gradient_or_evolution.py", '"--episodes", RECORDED, "--explore", 0.3', '"--episodes", RECORDED'),
    ("bench/gradient_or_evolution.py", 'self._count, BACKEND', "self._count"),
    ("bench/gradient_or_evolution.py", "steps = rows[-1][7]", "steps = rows[0][7]"),
    ("bench/gradient_or_evolution.py", "played @ [row[7] - 1 for", "played @ [row[8] - 1 for"),
    ("bench/gradient_or_evolution.py", "rows[-1][1] / 60", "rows[-1][1]"),
    ("bench/running.py", 'flags += ["--backend", backend] if', 'flags += [] if'),
    ("bench/policy_gradient.py", "best, SCORE_SEED, self._count", "best, 1000, self._count"),
    ("bench/policy_gradient.py", '"-s", seed, *EVALUATED', '"-s", 0, *EVALUATED'),
    ("bench/policy_gradient.py", "self._seeds if name in REPEATED else 1", "1"),
    ("bench/policy_gradient.py", 'TRAINED_ON | {"start_from": start, ', "TRAINED_ON | {"),
    ("bench/policy_gradient.py", '("--temperature", 1.5)', '("--temperature", 1.25)'),
    ("bench/variants.py", "UNSEEN_SEED, SCORE_SEED = seeds.UNSEEN, seeds.TRIALS", "UNSEEN_SEED, SCORE_SEED = 2_000, 1_000"),
    ("bench/variants.py", '"-s", seed, *everywhere', '"-s", 0, *everywhere'),
    ("common/play/play.py", "arguments.temperature, end_weight)", "arguments.temperature)"),
    ("common/play/play.py", "agent.end_weight if agent else 0.0)", "0.0)"),
    ("common/play/play.py", "agent.models, arguments.temperature, agent.end_weight)", "agent.models, arguments.temperature)"),
    ("common/play/agents.py", '.get("ends") == "drawn"', '.get("ends") != "threshold"'),
    ("common/studio/session.py", "scene.config.TEMPERATURE, stage.end_weight)", "scene.config.TEMPERATURE)"),
    ("bench/variants.py", "*everywhere, *self.arguments.train, *flags", "*everywhere, *flags"),
    ("bench/variants.py", '("rnn_train", ("--output", "gaussian"))', '("rnn_train", ())'),
    ("bench/variants.py", "STAGES.index(stage) < STAGES.index(differs)", "STAGES.index(stage) <= STAGES.index(differs)"),
    ("bench/variants.py", 'run, self._unseen(flags if "--actions" in flags else ())', 'run, os.path.join(run, "record")'),
    ("bench/running.py", 'flags = ["--episodes", count, "--run", run', 'flags = ["--run", run'),
    ("common/play/record.py", '"config": dataclasses.asdict(cfg), "parents": parents}', '"config": dataclasses.asdict(cfg)}'),
    ("common/training/plan.py", 'if one.more_rnns and one.train is not None and world == "game":', "if False:"),
    ("common/training/planet.py", "devices.for_training(cfg.seed)", "devices.for_training(0)"),
    ("common/training/planet.py", "may_change=MAY_CHANGE, about=about)", "may_change=MAY_CHANGE)"),
    ("common/play/play.py", '"temperature": arguments.temperature, "ends"', '"temperature": game.config.TEMPERATURE, "ends"'),
    ("common/play/play.py", "arguments.world if game.world_names else game.name", "game.name"),
    ("common/play/play.py", "game = game.acting_by(loaded.rnn.shape.action_size)\n    world = dreams(", "world = dreams("),
    ("common/play/select.py", "    for mean in means:  # before the first is played\n        agents.acting(game, *mean.of[:3], mean.parameters)\n", ""),
    ("common/training/evolve.py", "strategy, MAY_CHANGE, arena.score_of", "strategy, (), arena.score_of"),
    ("common/training/evolve.py", 'f"{base}.checkpoint.npz")', 'f"{base}.checkpoint")'),
    ("common/runtime/provenance.py", '"--dirty", ', ""),
    ("common/runtime/runs.py", "parents, self.seconds, unverified", "parents, 0.0, unverified"),
    ("common/runtime/settings.py", 'option(3.0, "KL divergence of a step', 'option(0.0, "KL divergence of a step'),
    ("common/training/vae_and_rnn.py", "if step % cfg.validate_every == 0 or step == cfg.steps:", "if step == cfg.steps:"),
    ("common/play/planet.py", "planet.check_search(search)", "pass"),
    ("common/play/planet.py", "return Planning(planner, seeds, noise, seed_offset)", "return Planning(planner, seeds)"),
    ("common/play/planet.py",
     'about |= {"rssm": {"path": agents.name_of(agent.path), "sha256": sha256}}', "pass"),
    ("common/worlds/believed.py", "planner.plan(state, self._step, self._seed_offset)", "planner.plan(state, self._step)"),
    ("common/training/planet.py", "self.model, self._agent.search, cfg.action_repeat)", "self.model, Search(), 1)"),
    ("common/training/planet.py", "self._real_games(False, len(episodes))", "self._real_games(True, len(episodes))"),
    ("common/training/planet.py", "count = min(most, cfg.episodes - self.episodes)", "count = most"),
    ("common/training/planet.py", '("validation_episodes", "backend", *(field', '("validation_episodes", *(field'),
    ("common/training/planet.py", '"rssm", hashes, parents.unverified, **more', '"rssm", hashes, False, **more'),
    ("common/training/policy_gradient.py", "cfg.world, made_of.unverified\n", "cfg.world, False\n"),
    ("common/training/planet.py", "for k in range(self.episodes):\n            self.frames += self",
     "for k in range(self.episodes):\n            self"),
    ("common/training/planet.py", "agents.find(cfg.recordings, arguments.run)", "cfg.recordings"),
    ("common/training/planet.py", "(game.config.ACTION_SIZE,), game.name)", "(game.config.ACTION_SIZE,))"),
    ("common/training/planet.py", "{os.path.basename(path)} {files.sha256(path)}", "{os.path.basename(path)}"),
    ("common/training/planet.py", 'row.get("planet/episodes", 0) <= self.episodes and ', ""),
    ("common/training/planet.py", ' and row.get("planet/at_episode", -1) <= self.validated', ""),
    ("common/training/planet.py", "if cfg.backend and cfg.backend not in game.backends:", "if False:"),
    ("common/play/fidelity.py", 'default=512, help="dreams to play"', 'default=10, help="dreams to play"'),
    ("common/agent/rssm.py", 'told = expected if shape.paths == "deterministic" else state', "told = state"),
    ("common/agent/rssm.py", 'dataclasses.replace(cfg, free_nats=0.0) if shape.paths == "deterministic" else cfg', "cfg"),
    ("common/agent/rssm.py", 'losses["end"] = mean_of(entropy, there)', 'losses["end"] = mean_of(entropy, known)'),
    ("common/agent/rssm.py", "labels=end, logits=", "labels=1.0 - end, logits="),
    ("common/studio/export.py", '"end_weight": stage.end_weight,', '"end_weight": 0.0,'),
    ("common/worlds/gym_envs.py", "self.np_random.integers(*SEEDS, len(rows)) if seeds is None",
     "np.full(len(rows), self.np_random.integers(*SEEDS)) if seeds is None"),
    ("common/worlds/gym_envs.py", "self._over[:], self._begun = False, True", "self._begun = True"),
    ("common/worlds/gym_envs.py", "super().__init__(game, num_envs, run, temperature, render_mode, autoreset_mode, unverified)",
     "super().__init__(game, num_envs, run, temperature, render_mode)"),
    ("carracing/config.py", "        ships=1,\n", "        ships=0,\n"),
    ("common/training/vae_and_rnn.py", "paths, _ = recordings.scan(folder, game.action_sizes, game.name)",
     "paths, _ = recordings.scan(folder, game.action_sizes)"),
    ("common/training/vae_and_rnn.py", '{"action_sizes": game.action_sizes, "game": game.name}',
     '{"action_sizes": game.action_sizes, "game": ""}'),
    ("common/studio/session.py", "planning.load(game, run, unverified)", "planning.load(game, run, True)"),
    ("common/studio/session.py", "models.load_run(game, run, unverified)", "models.load_run(game, run, True)"),
    ("common/studio/session.py", "self._rng.integers(SEEDS[0], SEEDS[1] + 1)", "self._rng.integers(1000, 2000)"),
    ("common/worlds/rssm_dreams.py", "planet.find(found, run or found.folder, unverified)",
     "planet.find(found, run or found.folder, True)"),
    ("common/data/recordings.py",
     'who = {"controller": config["controller"]} if config.get("controller") else {"policy": config.get("policy")}',
     'who = {"policy": config.get("policy")}'),
    ("common/runtime/mpi.py", 'os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1',
     'os.environ.get("PMI_SIZE") or 1'),
    ("common/runtime/mpi.py", "code in (0, 2, 130, 143)", "code in (0, 2, 130)"),
    ("common/game.py", 'if error.name not in (name, f"{name}.game"):', "if False:"),
    ("common/play/video.py", "if any(event.type == pygame.QUIT for event in pygame.event.get()):", "if False:"),
    ("common/play/video.py", "self._clock.tick(self._fps)", "self._clock.tick()"),
    ("common/runtime/cli.py", "errno.ENOSPC, errno.EDQUOT, ", "errno.ENOSPC, "),
    ("common/runtime/files.py", "            os.fsync(file.fileno())\n", ""),
    ("bench/variants.py", "running.returns(self.game, best, SCORE_SEED, self.arguments.games)",
     "running.returns(self.game, best, UNSEEN_SEED, self.arguments.games)"),
    ("bench/variants.py", 'self.arguments.seeds if name == "standard" or "-o" in flags else 1',
     'self.arguments.seeds if name == "standard" else 1'),
    ("bench/variants.py", "[row[2] for row in hist]", "[row[1] for row in hist]"),
    ("bench/open_loop.py", "paths[-arguments.unseen :]", "paths[: arguments.unseen]"),
    ("bench/open_loop.py", "steps, rng, inside=True)", "steps, rng)"),
    ("bench/open_loop.py", "dataclasses.replace(cfg, mirror=False), left_out)", "cfg, left_out)"),
    ("bench/open_loop.py", ', "recordings_sha256": planet.identity_of(learned)}', "}"),
    ("bench/open_loop.py", "image_error(mean_prediction(model.decode(state)), chunks.frames[t])",
     "image_error(model.decode(state)[: len(chunks.frames[t])], chunks.frames[t])"),
    ("common/data/replay.py", "before = 0 if inside else steps - 1", "before = steps - 1"),
    ("common/training/planet.py", "self._games[training][0] != rows", "False"),
    ("common/training/planet.py", "        if best is not None:\n", "        if os.path.exists(self._stage.path(EARLIER)):\n"),
    ("common/training/ship.py", "if not seeds.are_test(played):", "if False:"),
    ("common/training/ship.py", "        os.remove(path)\n", "        pass\n"),
    ("common/training/ship.py", "if scores is not None and {name: scores.get(name) for name in own} != own:", "if False:"),
    ("common/runtime/seeds.py", "TEST[0] <= seed <= TEST[1] or seed >= TEST_FROM", "TEST[0] <= seed <= TEST[1]"),
    ("bench/open_loop.py", "np.mean([draw[name] for draw in draws], axis=0)",
     "np.mean([draw[name] for draw in draws], axis=1)"),
    ("bench/open_loop.py", "np.maximum(known[t], chunks.end[t])", "known[t]"),
    ("bench/running.py", 'f"scores.{first_seed}.{count}.{backend}.{player}.json"', 'f"scores.{first_seed}.{count}.{backend}.json"'),
    ("bench/running.py", 'found = rows(earlier, earlier["figures"]) | found', 'found = found | rows(earlier, earlier["figures"])'),
    ("bench/running.py", '.get("commit") == provenance.commit()', '.get("commit") != ""'),
    ("bench/policy_gradient.py", '".hist."))[-1][7]', '".hist."))[-1][1]'),
    ("bench/policy_gradient.py", 'flags = "--explore", 0.1, "--min_frames", 0,', 'flags = "--min_frames", 0,'),
    ("bench/small_objects.py", "[frame for frame, _ in game]))[0])", "[frame for frame, _ in game]))[1])"),
    ("bench/scale.py", "(hist[-1][1] - hist[0][1]) / generations", "hist[-1][1] / generations"),
    ("carracing/config.py", '"laptop": replace(RNN_PAPER, heads=True, ', '"laptop": replace(RNN_PAPER, '),
    ("carracing/config.py", 'backend="draft",  # its', 'backend="envpool",  # its'),
    ("carracing/config.py", "explore=0.3,", "explore=0.1,"),
    ("carracing/config.py", '"dream": Extract(episodes=800, policy="brownian", ', '"dream": Extract(episodes=800, '),
    ("doomrnn/config.py", ", value_updates=5, reward_scale=0.004", ", value_updates=5"),
    ("bench/ppo.py", 'rates["ppo"] / rates["dream"], "rows"', 'rates["dream"] / rates["ppo"], "rows"'),
    ("bench/dream.py", 'figures["steps_per_s"] / cores / figures["one_at_a_time_steps_per_s"]',
     'figures["steps_per_s"] / figures["one_at_a_time_steps_per_s"]'),
    # what a run of rounds, a search and a choice keep, refuse and tell
    ("common/training/restore.py", "not begin <= int(seed) < end", "not int(seed) < end"),
    ("common/training/restore.py", "not begin <= int(seed) < end", "not begin <= int(seed) <= end"),
    ("common/training/restore.py", "self._plan.first_seed(number + 1)",
     "self._plan.first_seed(len(self._plan.rounds) + 1)"),
    ("common/training/restore.py", 'int(files.read_json(self._summary(first))["kept"])', "episodes"),
    ("common/training/restore.py", "except (FileNotFoundError, ValueError, KeyError, TypeError):",
     "except FileNotFoundError:"),
    ("common/training/restore.py", ' or self._state.must_begin_anew(f"{at}/series")', ""),
    ("common/training/restore.py", 'encoded = f"{self._plan.encoded_in(number)}/series"',
     'encoded = f"{number}/series"'),
    ("common/training/restore.py", "if free < needed:", "if free <= needed:"),
    ("common/training/restore.py", "anew + [encoded] * lost", "anew"),
    ("common/training/restore.py", "return gone and bool(self._readers(number))", "return gone"),
    ("common/training/iterate.py", 'self._stages.run(at, "series", "series", {}, self._paths.round(at))',
     'self._stages.run(number, "series", "series", {}, folder)'),
    ("common/training/iterate.py", "    files.remove_temporary(arguments.run)\n", ""),
    ("common/training/iterate.py", "if len(found) != 1:", "if not found:"),
    ("common/training/iterate.py", "arguments.seed or 1", "arguments.seed or 2"),
    ("common/training/iterate.py", "        if len(self._lines) < len(self._rounds):\n", "        if True:\n"),
    ("common/training/plan.py", "if one.train is None and (one.vae, one.rnn) != (None, None):", "if False:"),
    ("common/training/plan.py", "if own > held_out else {}", "if own else {}"),
    ("common/training/plan.py", "if own > held_out else {}", "if own >= held_out else {}"),
    ("common/training/plan.py", 'for field in ("random", "own", "more_rnns"):', 'for field in ("own", "more_rnns"):'),
    ("common/training/plan.py", '"train", "pick_best", "model"]', '"train", "pick_best"]'),
    ("common/training/plan.py", "if recorded > SEEDS_PER_RUN:", "if recorded >= SEEDS_PER_RUN:"),
    ("common/training/plan.py", ' and hasattr(game.config, "STOPS_PAYING")', ""),
    ("common/training/state.py", '            return before | {"rounds": rounds}\n        number',
     "            return before\n        number"),
    ("common/training/state.py", "number = changed[0]", "number = changed[-1]"),
    ("common/training/state.py", 'round(notes.get("aside_minutes", 0.0) + lost / 60, 1)', "round(lost / 60, 1)"),
    ("common/training/state.py", 'for what in ("done", "seconds", "memory_gb")', 'for what in ("done", "seconds")'),
    ("common/training/state.py", "max(most.get(stage, 0.0), memory_gb)", "memory_gb"),
    ("common/training/state.py", '("record", "round1", "rounds.json")', '("record",)'),
    ("common/training/launch.py", "        finally:\n            note_time()\n",
     "        finally:\n            pass\n"),
    ("common/training/launch.py", "command=[os.path.basename(words[0]), *words[1:]]", "command=words"),
    ("common/training/launch.py", "place = os.path.realpath(os.path.join(folder, name))",
     "place = os.path.join(folder, name)"),
    ("common/training/layout.py", "with contextlib.suppress(FileNotFoundError):", "with contextlib.nullcontext():"),
    ("common/training/layout.py", "        if os.path.exists(series):\n", "        if True:\n"),
    ("common/training/report.py", "{found['false_alarms']:.1%} false", "{recall:.1%} false"),
    ("common/training/report.py", 'row["expected"] or 0.0 for', 'row["expected"] for'),
    ("common/training/report.py", "elif expected and seen", "elif seen"),
    ("common/training/report.py", 'math.hypot(dream["stderr"], real["stderr"])',
     'math.hypot(real["stderr"], real["stderr"])'),
    ("common/training/ship.py", "cfg.ships >= len(config.SHIPPED)", "cfg.ships > len(config.SHIPPED)"),
    ("common/training/ship.py", 'value.startswith(f"{place}/")', "value.startswith(place)"),
    ("common/training/evolution.py",
     '        controller.write(stage.path("json"), self.strategy.mean)\n',
     '        files.write_json(stage.path("hist.json"), self.hist)\n        controller.write(stage.path("json"), self.strategy.mean)\n'),
    ("common/training/evolution.py", "return not arguments.fresh and len(hist) >= cfg.generations",
     "return len(hist) >= cfg.generations"),
    ("common/training/evolution.py", "return not arguments.fresh and any(", "return any("),
    ("common/training/evolution.py", 'for name in ("checkpoint.npz", "npz"))', 'for name in ("checkpoint.npz",))'),
    ("common/training/evolve.py", "arena.evaluate(run.mean, run.evaluation_seeds())",
     "arena.evaluate(run.strategy.mean, run.evaluation_seeds())"),
    ("common/training/evolve.py", "models.load_run(game, arguments.run, arguments.unverified)",
     "models.load_run(game, arguments.run, True)"),
    ("common/training/evolve.py", "models.load_run(game, arguments.run, arguments.unverified)",
     "models.load_run(game, arguments.run)"),
    ("common/training/evolve.py", "provenance.Parents(loaded.hashes, loaded.unverified)",
     "provenance.Parents(loaded.hashes, False)"),
    ("common/training/evolve.py", "arena.score_of, made_of.unverified\n", "arena.score_of, False\n"),
    ("common/training/evolve.py", "popsize < 3:", "popsize <= 3:"),
    ("common/training/evolve.py", "popsize < 2 * cfg.track_groups", "popsize <= 2 * cfg.track_groups"),
    ("common/play/select.py", "one.loaded.unverified or provenance.any_unverified(one.meta)", "one.loaded.unverified"),
    ("common/play/select.py", "one.loaded.unverified or provenance.any_unverified(one.meta)",
     "provenance.any_unverified(one.meta)"),
    ("common/play/select.py", "unverified = any(one", "unverified = all(one"),
    ("common/play/select.py", "if not rows[path]:", "if False:"),
    ("common/runtime/provenance.py",
     'if not (isinstance(meta, dict) and all(isinstance(meta.get(name), dict) for name in ("config", "parents"))):',
     "if not isinstance(meta, dict):"),
    ("common/runtime/provenance.py",
     'if not (isinstance(meta, dict) and all(isinstance(meta.get(name), dict) for name in ("config", "parents"))):',
     "if False:"),
    ("common/training/evolution.py", "mean {self.hist[-1][2]:.1f}", "mean {self.hist[-1][4]:.1f}"),
    ("common/training/evolution.py", "evaluated {self._log[-1][1]:.1f}", "evaluated {self._log[0][1]:.1f}"),
    ("common/play/select.py", "picked.json: {_words(means[best], rounds[best])}",
     "picked.json: {_words(means[0], rounds[0])}"),
]  # fmt: skip
"""(module, text that stands in it once, what to put in its place)"""

EQUIVALENT: dict[tuple[str, str], str] = {}
"""{(module, new text): why no test can see it}"""

HANGS: set[tuple[str, str]] = set()
"""(module, new text) of the changes after which a test never ends, which counts as red"""

Mutant = tuple[str, str, str]


def texts_of(path: str, old: str) -> int:
    """How often a text stands in a module."""
    with open(os.path.join(ROOT, path)) as file:
        return file.read().count(old)


def tracked() -> list[str]:
    """The files that git tracks and that are there."""
    names = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    return [name for name in filter(None, names.split("\0")) if os.path.exists(os.path.join(ROOT, name))]


def code_here() -> str:
    """A hash of all that the verdicts depend on: modules, tests, changes, pages, weights; no guides, not SEEN_BY."""
    digest = hashlib.sha256()
    matters = (name for name in tracked() if not name.startswith("docs/") and not name.endswith(TO_READ))
    for name in sorted(name for name in matters if name != SEEN_BY):
        digest.update(f"{name} {files.sha256(os.path.join(ROOT, name))}\n".encode())
    return digest.hexdigest()


def copy_repository(folder: str) -> None:
    """Copies what git tracks, and what is not yet committed of it, into a repository of its own."""
    for name in tracked():
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        shutil.copy(os.path.join(ROOT, name), os.path.join(folder, name))
    nobody = "-c", "user.name=mutants", "-c", "user.email=", "-c", "commit.gpgsign=false"
    commit = [*nobody, "commit", "--quiet", "--no-verify", "--message", "a copy"]
    # tests ask git which files there are, and for the commit
    for words in (["init", "--quiet"], ["add", "--all", "--force"], commit):
        subprocess.run(["git", "-C", folder, *words], check=True)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What tests said of a change."""

    word: str
    seen_by: str = ""
    """the test that was red, as pytest names it"""


class Trials:
    """Runs tests in copies of the repository, several at the same time.

    Args:
        root: an empty folder for the copies.
        workers: how many.
    """

    def __init__(self, root: str, workers: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(max(1, workers))
        self._running: set[subprocess.Popen] = set()
        self._folders: queue.Queue[str] = queue.Queue()
        for k in range(workers):
            copy_repository(os.path.join(root, str(k)))
            self._folders.put(os.path.join(root, str(k)))

    def of(self, function: Callable[[str, Any], Verdict], arguments: Iterable[Any]) -> Iterator[tuple[Any, Verdict]]:
        """Yields (argument, function(folder, argument)) as they are done."""
        futures = {self._pool.submit(self._in_a_folder, function, one): one for one in arguments}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()

    def _in_a_folder(self, function: Callable[[str, Any], Verdict], argument: Any) -> Verdict:
        folder = self._folders.get()
        try:
            return function(folder, argument)
        finally:
            self._folders.put(folder)

    def verdict(self, folder: str, tests: Sequence[str]) -> Verdict:
        """Runs tests: "red", "green", "hangs", or "code 2" and the like if pytest came to no verdict."""
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *tests]
        found_first = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]  # the copy has no .venv
        environment = os.environ | {"PATH": found_first, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile("w+") as said:  # not a pipe, which what a test leaves running would keep open
            streams = {"stdout": said, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen(bound.command(*words), cwd=folder, env=environment, **streams)
            self._running.add(process)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return Verdict("hangs")
            finally:
                self._running.discard(process)
            said.seek(0)
            red = [line for line in said if line.startswith(("FAILED ", "ERROR "))]
        seen_by = red[-1].partition(" ")[2].partition(" - ")[0].strip() if red else ""
        return Verdict({0: "green", 1: "red"}.get(process.returncode, f"code {process.returncode}"), seen_by)

    def changed(self, folder: str, mutant: Mutant, seen_by: str = "") -> Verdict:
        """Makes a change in a copy of the repository, runs the tests of its module, and takes the change back.

        Args:
            folder: the copy.
            mutant: the change.
            seen_by: the test that was red the last time, if there is one.
        """
        path, old, new = mutant
        target = os.path.join(folder, path)
        with open(target) as file:
            text = file.read()
        try:
            with open(target, "w") as file:
                file.write(text.replace(old, new))
            if seen_by and (found := self.verdict(folder, [seen_by])).word == "red":
                return found
            return self.verdict(folder, TESTS[path].split())
        finally:
            with open(target, "w") as file:
                file.write(text)

    def close(self) -> None:
        """Kills what is still running."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()
        self._pool.shutdown()


def main() -> None:
    """Tries all changes, prints the list, and exits with 1 if too many of them are green."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only changes with this in their path or text")
    parser.add_argument("--workers", type=cli.number(int, 1), default=2, help="changes that are tried at the same time")
    text = "keep the verdicts here: as long as no code has changed, the same command goes on where it was stopped"
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help=text)
    parser.add_argument("--remember", action="store_true", help=f"add the tests that saw a change to {SEEN_BY}")
    arguments = parser.parse_args()
    chosen = [one for one in MUTANTS if arguments.only in "\n".join(one) and one[::2] not in EQUIVALENT]
    if not chosen:
        raise UserError(f"--only {arguments.only}: stands in no change; give a part of a path, such as common/agent")
    code, red = code_here(), 0
    verdicts, seen_by = known(arguments.out, code) if arguments.out else ({}, {})
    earlier = seen_before() | seen_by
    left = [one for one in chosen if "\n".join(one) not in verdicts]
    for mutant in (one for one in chosen if one not in left):
        red += told(mutant, verdicts["\n".join(mutant)])

    def keep(name: str, verdict: Verdict) -> None:
        verdicts[name] = verdict.word
        if verdict.seen_by:
            seen_by[name] = verdict.seen_by
        if arguments.out:
            files.write_json(arguments.out, {"code": code, "verdicts": verdicts, "seen_by": seen_by}, indent=1)

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root,
        contextlib.closing(Trials(root, min(arguments.workers, len(left)))) as trials,
    ):
        unchanged = dict.fromkeys(TESTS[path] for path, *_ in left)
        unknown = [tests for tests in unchanged if tests not in verdicts]
        for tests, verdict in trials.of(lambda folder, tests: trials.verdict(folder, tests.split()), unknown):
            if verdict.word != "green":
                raise UserError(f"{verdict.seen_by or tests}: {verdict.word} without any change; mend that first")
            keep(tests, verdict)
        with runs.progress(len(chosen), len(chosen) - len(left), "try changes") as bar:

            def tried(folder: str, one: Mutant) -> Verdict:
                return trials.changed(folder, one, earlier.get("\n".join(one), ""))

            for mutant, verdict in trials.of(tried, left):
                keep("\n".join(mutant), verdict)
                red += told(mutant, verdict.word)
                bar.update()
    if arguments.remember:
        listed = {"\n".join(one) for one in MUTANTS}
        kept = {name: test for name, test in sorted((earlier | seen_by).items()) if name in listed}
        files.write_json(os.path.join(ROOT, SEEN_BY), kept, indent=1)
    print(f"{red} of {len(chosen)} changes turn a test red ({100 * red / len(chosen):.0f} %)")
    sys.exit(red < ENOUGH * len(chosen))


def known(path: str, code: str) -> tuple[dict[str, str], dict[str, str]]:
    """What a file tells of earlier trials, by the tests, or by the lines of a change.

    Returns:
        ({name: verdict}, {name: the test that saw it}); no verdicts if they are of other code.
    """
    try:
        about = files.read_json(path)
        return dict(about["verdicts"]) if about["code"] == code else {}, dict(about.get("seen_by", {}))
    except FileNotFoundError:
        return {}, {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--out {path}: holds no verdicts ({error}); give another file") from None


def seen_before() -> dict[str, str]:
    """{lines of a change: the test that saw it}, of SEEN_BY."""
    try:
        return dict(files.read_json(os.path.join(ROOT, SEEN_BY)))
    except FileNotFoundError:
        return {}


def told(mutant: Mutant, verdict: str) -> bool:
    """Prints the verdict of a change; returns whether a test saw it."""
    seen = verdict == "red" or (verdict == "hangs" and mutant[::2] in HANGS)
    path, old, new = (" ".join(text.split()) for text in mutant)
    print(f"{verdict if seen else verdict.upper():<7}{path}: {old}  ->  {new}", flush=True)
    return seen


if __name__ == "__main__":
    cli.run_main(main)
