"""What is true of the game, and the presets of every stage."""

from common.runtime import settings

GAME = "catchdot"
MAX_STEPS = 200  # of an episode, in the game and in the dream
FPS = 20
ACTION_SIZE = 1
ACTION_LOW, ACTION_HIGH = (-1.0,), (1.0,)
MIRROR = (-1.0,)  # times this, an action is what a mirror shows of it
RESTART = True  # the MDN-RNN learns when an episode ends
CONTROLLER_MODE, CONTROLLER_BIAS = "zch", True
TEMPERATURE = 1.0  # of dreams to play in
DREAM_REWARD = 1.0  # in the dream, of a step lived through
TRAINED = {"vae": "tf_vae/vae.json", "rnn": "tf_rnn/rnn.json", "initial_z": "tf_initial_z/initial_z.json"}
SHIPPED = ({"vae": "tf_models/vae.json", "rnn": "tf_models/rnn.json", "initial_z": "tf_models/initial_z.json"},)
SHIPPED_CONTROLLER = "log/catchdot.cma.4.8.best.json"
RNN_FILE_ORDER = ("kernel", "bias", "output_w", "output_b")

EXTRACT = {"laptop": settings.Extract(episodes=60)}
VAE = {
    "laptop": settings.Vae(z_size=8, batch_size=32, steps=200, learning_rate=1e-3, schedule="cosine", report_every=25)
}
SERIES = {"laptop": settings.Series()}
RNN = {
    "laptop": settings.RestartRnn(
        hidden_size=32, streams=8, sequence_length=24, steps=110, learning_rate=3e-3, validation_episodes=8
    )
}
TRAIN = {"laptop": settings.DreamTrain(n=1, t=8, num_episode=4, generations=4, eval_steps=2, eval_episodes=16)}
_FIRST = settings.Round(random=60, vae={}, rnn={}, train={}, games=20)
_SECOND = settings.Round(own=30, rnn={}, train={}, games=20)
ITERATE = {"laptop": settings.Iterate((_FIRST, _SECOND), mb_per_episode=0.1)}
